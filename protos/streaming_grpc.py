import purerpc
import protos.streaming_pb2 as protos_dot_streaming__pb2
import protos.common_pb2 as protos_dot_common__pb2


class StreamingPipelineServiceServicer(purerpc.Servicer):
    async def StreamPipeline(self, input_messages):
        raise NotImplementedError()

    @property
    def service(self) -> purerpc.Service:
        service_obj = purerpc.Service(
            "remotemedia.v1.StreamingPipelineService"
        )
        service_obj.add_method(
            "StreamPipeline",
            self.StreamPipeline,
            purerpc.RPCSignature(
                purerpc.Cardinality.STREAM_STREAM,
                protos_dot_streaming__pb2.StreamRequest,
                protos_dot_streaming__pb2.StreamResponse,
            )
        )
        return service_obj


class StreamingPipelineServiceStub:
    def __init__(self, channel):
        self._client = purerpc.Client(
            "remotemedia.v1.StreamingPipelineService",
            channel
        )
        self.StreamPipeline = self._client.get_method_stub(
            "StreamPipeline",
            purerpc.RPCSignature(
                purerpc.Cardinality.STREAM_STREAM,
                protos_dot_streaming__pb2.StreamRequest,
                protos_dot_streaming__pb2.StreamResponse,
            )
        )