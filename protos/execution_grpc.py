import purerpc
import protos.execution_pb2 as protos_dot_execution__pb2
import protos.common_pb2 as protos_dot_common__pb2


class PipelineExecutionServiceServicer(purerpc.Servicer):
    async def ExecutePipeline(self, input_message):
        raise NotImplementedError()

    async def GetVersion(self, input_message):
        raise NotImplementedError()

    @property
    def service(self) -> purerpc.Service:
        service_obj = purerpc.Service(
            "remotemedia.v1.PipelineExecutionService"
        )
        service_obj.add_method(
            "ExecutePipeline",
            self.ExecutePipeline,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                protos_dot_execution__pb2.ExecuteRequest,
                protos_dot_execution__pb2.ExecuteResponse,
            )
        )
        service_obj.add_method(
            "GetVersion",
            self.GetVersion,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                protos_dot_execution__pb2.VersionRequest,
                protos_dot_execution__pb2.VersionResponse,
            )
        )
        return service_obj


class PipelineExecutionServiceStub:
    def __init__(self, channel):
        self._client = purerpc.Client(
            "remotemedia.v1.PipelineExecutionService",
            channel
        )
        self.ExecutePipeline = self._client.get_method_stub(
            "ExecutePipeline",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                protos_dot_execution__pb2.ExecuteRequest,
                protos_dot_execution__pb2.ExecuteResponse,
            )
        )
        self.GetVersion = self._client.get_method_stub(
            "GetVersion",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                protos_dot_execution__pb2.VersionRequest,
                protos_dot_execution__pb2.VersionResponse,
            )
        )