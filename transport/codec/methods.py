"""Names of the services and RPCs, read from the generated descriptors."""

from __future__ import annotations

from protos import execution_pb2, streaming_pb2

__all__ = ["EXECUTION_SERVICE", "SESSION_PATHS", "STREAMING_SERVICE"]

EXECUTION_SERVICE = execution_pb2.DESCRIPTOR.services_by_name["PipelineExecutionService"].full_name
STREAMING_SERVICE = streaming_pb2.DESCRIPTOR.services_by_name["StreamingPipelineService"].full_name

SESSION_PATHS = frozenset({f"/{EXECUTION_SERVICE}/ExecutePipeline", f"/{STREAMING_SERVICE}/StreamPipeline"})
"""The RPCs that hold a session while they run."""
