"""What the services behind the cluster files accept, of the fields that the files use.

Ray's own schema says nothing about ``node_config``, and no cluster here runs an operator: a field
misspelt there would be found by the first user who pays for it. Each schema is a JSON schema that
refuses what it doesn't name. Names, types and values were checked on the day they were written
against the service's own description, named with each; a new field in a cluster file needs its line
here, looked up in the same place.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string", "minLength": 1}
_WHOLE: Schema = {"type": "integer", "minimum": 0}
_YES_NO: Schema = {"type": "boolean"}


def _one_of(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def _record(required: tuple[str, ...] = (), /, **fields: Schema) -> Schema:
    return {
        "type": "object",
        "properties": fields,
        "required": list(required),
        "additionalProperties": False,
    }


def _many(items: Schema) -> Schema:
    return {"type": "array", "items": items}


EC2_NODE: Schema = _record(
    ("InstanceType", "ImageId", "SubnetIds", "SecurityGroupIds"),
    InstanceType={"type": "string", "pattern": r"^[a-z0-9-]+\.[a-z0-9]+$"},
    ImageId={"type": "string", "pattern": r"^ami-[0-9a-f]{17}$"},
    # Not a field of the API: Ray takes one of them and sends SubnetId (aws/node_provider.py).
    SubnetIds=_many({"type": "string", "pattern": r"^subnet-[0-9a-f]{17}$"}),
    SecurityGroupIds=_many({"type": "string", "pattern": r"^sg-[0-9a-f]{17}$"}),
    IamInstanceProfile=_record(Name=_TEXT, Arn=_TEXT),
    InstanceMarketOptions=_record(
        ("MarketType",),
        MarketType=_one_of("spot", "capacity-block"),
        SpotOptions=_record(
            MaxPrice=_TEXT,
            SpotInstanceType=_one_of("one-time", "persistent"),
            InstanceInterruptionBehavior=_one_of("hibernate", "stop", "terminate"),
        ),
    ),
    BlockDeviceMappings=_many(
        _record(
            ("DeviceName",),
            DeviceName=_TEXT,
            Ebs=_record(
                VolumeSize=_WHOLE,
                VolumeType=_one_of("gp2", "gp3", "io1", "io2", "st1", "sc1", "standard"),
                Encrypted=_YES_NO,
                DeleteOnTermination=_YES_NO,
            ),
        )
    ),
    MetadataOptions=_record(
        HttpTokens=_one_of("optional", "required"), HttpEndpoint=_one_of("disabled", "enabled")
    ),
)
"""EC2 ``RunInstancesRequest``, API 2016-11-15 (the service description in botocore 1.44.5)."""

GCP_NODE: Schema = _record(
    ("machineType", "disks", "networkInterfaces"),
    machineType=_TEXT,
    disks=_many(
        _record(
            boot=_YES_NO,
            autoDelete=_YES_NO,
            type=_one_of("PERSISTENT", "SCRATCH"),
            # int64 travels as a string in Google's JSON.
            initializeParams=_record(
                diskSizeGb={"type": "string", "pattern": r"^\d+$"},
                sourceImage={"type": "string", "pattern": "^projects/.+/global/images/"},
            ),
        )
    ),
    networkInterfaces=_many(_record(subnetwork=_TEXT, network=_TEXT)),
    scheduling=_record(
        provisioningModel=_one_of("FLEX_START", "RESERVATION_BOUND", "SPOT", "STANDARD"),
        instanceTerminationAction=_one_of("DELETE", "STOP"),
        onHostMaintenance=_one_of("MIGRATE", "TERMINATE"),
        automaticRestart=_YES_NO,
    ),
    serviceAccounts=_many(_record(email=_TEXT, scopes=_many(_TEXT))),
)
"""Compute Engine v1 ``Instance`` (the discovery document in google-api-python-client 2.202.0), less
``accessConfigs``, which would give a machine a public address."""

_QUANTITY: Schema = {"type": "string", "pattern": r"^\d+(m|Ki|Mi|Gi|Ti)?$"}
_QUANTITIES: Schema = {"type": "object", "additionalProperties": _QUANTITY}
_LABELS: Schema = {"type": "object", "additionalProperties": _TEXT}
_METADATA: Schema = _record(
    ("name",),
    name={"type": "string", "pattern": r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"},
    labels=_LABELS,
)

_POD: Schema = _record(
    ("spec",),
    metadata=_record(labels=_LABELS),
    spec=_record(
        ("containers",),
        containers=_many(
            _record(
                ("name", "image", "resources"),
                name=_TEXT,
                image=_TEXT,
                resources=_record(("limits", "requests"), limits=_QUANTITIES, requests=_QUANTITIES),
                env=_many(_record(("name", "value"), name=_TEXT, value={"type": "string"})),
                volumeMounts=_many(
                    _record(("name", "mountPath"), name=_TEXT, mountPath=_TEXT, readOnly=_YES_NO)
                ),
                lifecycle=_record(preStop=_record(exec=_record(command=_many(_TEXT)))),
            )
        ),
        nodeSelector=_LABELS,
        terminationGracePeriodSeconds=_WHOLE,
        tolerations=_many(
            _record(
                key=_TEXT,
                operator=_one_of("Exists", "Equal"),
                value=_TEXT,
                effect=_one_of("NoSchedule", "PreferNoSchedule", "NoExecute"),
            )
        ),
        volumes=_many(
            _record(
                ("name", "persistentVolumeClaim"),
                name=_TEXT,
                persistentVolumeClaim=_record(("claimName",), claimName=_TEXT, readOnly=_YES_NO),
            )
        ),
    ),
)
"""Kubernetes ``core/v1`` ``PodTemplateSpec``, as KubeRay's definitions repeat it."""

_RAY_OPTIONS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}

_RAY_CLUSTER_SPEC: Schema = _record(
    ("headGroupSpec",),
    rayVersion={"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
    authOptions=_record(mode=_one_of("disabled", "token"), secretName=_TEXT),
    enableInTreeAutoscaling=_YES_NO,
    autoscalerOptions=_record(
        idleTimeoutSeconds=_WHOLE,
        upscalingMode=_one_of("Default", "Aggressive", "Conservative"),
    ),
    headGroupSpec=_record(
        ("template",),
        serviceType=_one_of("ClusterIP"),
        rayStartParams=_RAY_OPTIONS,
        template=_POD,
    ),
    workerGroupSpecs=_many(
        _record(
            ("groupName", "maxReplicas", "minReplicas", "template"),
            groupName=_TEXT,
            replicas=_WHOLE,
            minReplicas=_WHOLE,
            maxReplicas=_WHOLE,
            idleTimeoutSeconds=_WHOLE,
            rayStartParams=_RAY_OPTIONS,
            template=_POD,
        )
    ),
)

_HEADER: dict[str, Schema] = {"metadata": _METADATA}

RAY_CLUSTER: Schema = _record(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion=_one_of("ray.io/v1"),
    kind=_one_of("RayCluster"),
    spec=_RAY_CLUSTER_SPEC,
    **_HEADER,
)
"""KubeRay's ``rayclusters.ray.io`` v1 (operator 1.7.0, commit feeaf72), less service types that
open a port to the world."""

RAY_JOB: Schema = _record(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion=_one_of("ray.io/v1"),
    kind=_one_of("RayJob"),
    spec=_record(
        ("entrypoint", "rayClusterSpec"),
        entrypoint=_TEXT,
        submissionMode=_one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
        shutdownAfterJobFinishes=_YES_NO,
        ttlSecondsAfterFinished=_WHOLE,
        backoffLimit=_WHOLE,
        activeDeadlineSeconds=_WHOLE,
        rayClusterSpec=_RAY_CLUSTER_SPEC,
    ),
    **_HEADER,
)
"""KubeRay's ``rayjobs.ray.io`` v1, of the same version."""

VOLUME_CLAIM: Schema = _record(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion=_one_of("v1"),
    kind=_one_of("PersistentVolumeClaim"),
    spec=_record(
        ("accessModes", "resources"),
        accessModes=_many(_one_of("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany")),
        storageClassName=_TEXT,
        resources=_record(("requests",), requests=_QUANTITIES),
    ),
    **_HEADER,
)
"""Kubernetes ``core/v1`` ``PersistentVolumeClaim``."""
