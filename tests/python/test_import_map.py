"""Appendix A of the contract: every public name can be imported, and what comes later says so when it is used."""

import importlib

import pytest

from eagleray.serve import _later

MAP = {
    "eagleray.serve": "Application ControllerOptions Deployment HTTPOptions RunTarget TracingConfig batch delete "
    "deployment get_app_handle get_deployment_actor get_deployment_actor_context get_deployment_handle "
    "get_multiplexed_model_id get_replica_context get_trace_context ingress run run_many shutdown shutdown_async "
    "start status",
    "eagleray.serve.config": "AutoscalingConfig AutoscalingPolicy AutoscalingContext AggregationFunction "
    "RequestRouterConfig BackpressureConfig HTTPOptions gRPCOptions ProxyLocation ControllerOptions "
    "GangSchedulingConfig GangPlacementStrategy GangRuntimeFailurePolicy DeploymentActorConfig",
    "eagleray.serve.schema": "ServeDeploySchema ServeApplicationSchema DeploymentSchema RayActorOptionsSchema "
    "HTTPOptionsSchema gRPCOptionsSchema LoggingConfig TracingConfig EncodingType ServeStatus ApplicationStatus "
    "ApplicationStatusOverview DeploymentStatusOverview ProxyStatus ServeInstanceDetails ApplicationDetails "
    "DeploymentDetails ReplicaDetails ProxyDetails ServeActorDetails Target TargetGroup APIType ReplicaRank "
    "TaskProcessorConfig CeleryAdapterConfig TaskResult TaskProcessorAdapter ScaleDeploymentRequest "
    "DeploymentTopology ControllerHealthMetrics",
    "eagleray.serve.handle": "DeploymentHandle DeploymentResponse DeploymentResponseGenerator "
    "DeploymentBroadcastResponse ReplicaSelection",
    "eagleray.serve.exceptions": "RayServeException BackPressureError RequestCancelledError "
    "DeploymentUnavailableError ReplicaUnavailableError gRPCStatusError",
    "eagleray.serve.context": "ReplicaContext",
    "eagleray.serve.gang": "GangContext",
    "eagleray.serve.metrics": "Counter Gauge Histogram",
    "eagleray.serve.grpc_util": "RayServegRPCContext gRPCInputStream",
    "eagleray.serve.request_router": "RequestRouter FIFOMixin LocalityMixin MultiplexMixin PendingRequest "
    "RunningReplica ReplicaID ReplicaResult",
    "eagleray.serve.autoscaling_policy": "default_autoscaling_policy PrometheusQueryMixin PrometheusScalar "
    "PrometheusSample",
    "eagleray.serve.async_inference_autoscaling_policy": "AsyncInferenceAutoscalingPolicy",
    "eagleray.serve.task_consumer": "task_consumer task_handler instantiate_adapter_from_config",
    "eagleray.serve.task_processor": "CeleryTaskProcessorAdapter",
    "eagleray.serve.taskiq_task_processor": "TaskiqAdapterConfig TaskiqTaskProcessorAdapter",
    "eagleray.serve.gradio_integrations": "GradioIngress GradioServer",
    "eagleray.serve.experimental.round_robin_router": "RoundRobinRouter",
    "eagleray.serve.experimental.consistent_hash_router": "ConsistentHashRouter",
    "eagleray.serve.experimental.capacity_queue_router": "CapacityQueueRouter",
    "eagleray.serve.llm": "LLMConfig ModelLoadingConfig LoraConfig CloudMirrorConfig LLMServingArgs "
    "build_llm_deployment build_openai_app build_pd_openai_app build_dp_deployment build_dp_openai_app LLMServer "
    "PDPrefillServer PDDecodeServer DPServer OpenAiIngress make_fastapi_ingress PrefixCacheAffinityRouter "
    "KVAwareRouter",
    "eagleray.serve.dag": "InputNode",
}


@pytest.mark.parametrize("module", MAP)
def test_every_public_name_can_be_imported(module: str) -> None:
    found = importlib.import_module(module)
    missing = [name for name in MAP[module].split() if not hasattr(found, name)]
    assert missing == []
    unlisted = [name for name in MAP[module].split() if name not in found.__all__]
    assert unlisted == [], "import * gives them too"


def test_the_package_lists_its_names() -> None:
    from eagleray import serve

    assert set(MAP["eagleray.serve"].split()) <= set(serve.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        serve.nonsense  # type: ignore[attr-defined]


def test_what_comes_later_says_so_when_it_is_used() -> None:
    from eagleray.serve import request_router, schema, task_consumer

    with pytest.raises(_later.NotAvailableYetError, match=r"task_consumer\.task_consumer is not available"):
        task_consumer.task_consumer(task_processor_config=None)
    with pytest.raises(NotImplementedError, match="ServeDeploySchema"):
        schema.ServeDeploySchema(applications=[])

    class Own(request_router.RequestRouter):  # type: ignore[misc, name-defined]
        pass

    with pytest.raises(NotImplementedError, match=r"Own is not available.*power of two choices"):
        Own()
