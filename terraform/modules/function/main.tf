locals {
  images = var.canary == null ? [var.image] : distinct([var.image, var.canary.image])

  templates = { for image in local.images : image => {
    metadata = {
      labels = merge(local.labels, local.mesh.labels)
      annotations = merge(
        local.mesh.annotations,
        {
          "autoscaling.knative.dev/min-scale" = tostring(var.scale.min)
          "autoscaling.knative.dev/max-scale" = tostring(var.scale.max)
          "autoscaling.knative.dev/target"    = tostring(var.scale.target)
          "ebb.dev/config-sha256"             = var.config.sha256
        },
        { for k, v in { "autoscaling.knative.dev/window" = var.scale.window } : k => v if v != null },
      )
    }
    spec = merge({
      serviceAccountName   = var.name
      enableServiceLinks   = false
      containerConcurrency = var.scale.limit
      timeoutSeconds       = var.timeout_seconds
      containers = [{ for k, v in {
        name            = "function"
        image           = image
        imagePullPolicy = var.image_pull_policy
        env             = local.env
        ports           = [merge({ containerPort = 8080 }, var.h2c ? { name = "h2c" } : {})]
        resources       = var.resources
        # Knative's default of 10 s between two probes makes an unlucky start wait that long.
        # All that Knative would add is written down: it adds nothing where a service goes back to a revision that there is.
        readinessProbe = { httpGet = { path = "/health/readiness" }, periodSeconds = 1, timeoutSeconds = 1, successThreshold = 1, failureThreshold = 3 }
        livenessProbe  = { httpGet = { path = "/health/liveness" }, periodSeconds = 10, timeoutSeconds = 1, successThreshold = 1, failureThreshold = 3 }
        securityContext = {
          allowPrivilegeEscalation = false
          capabilities             = { drop = ["ALL"] }
          readOnlyRootFilesystem   = true
          runAsNonRoot             = true
          seccompProfile           = { type = "RuntimeDefault" }
        }
        volumeMounts = length(local.mounted) == 0 ? null : [{ name = "keys", mountPath = "/etc/ebb/keys", readOnly = true }]
      } : k => v if v != null }]
      },
      { for k in ["volumes"] : k => [{
        name   = "keys"
        secret = { secretName = var.signing_keys, items = [for file in values(local.mounted) : { key = file, path = file }] }
      }] if length(local.mounted) > 0 },
    )
  } }

  # A revision is named after what it is, so that the same template is the same revision: taking an image back, or
  # making a canary the image, starts nothing anew. What the SinkBinding adds to it depends on the broker.
  binding = length(local.says) > 0 ? jsonencode([var.broker, var.sender_identity != null]) : ""
  revisions = {
    for image, template in local.templates :
    image => "${var.name}-${substr(sha256(jsonencode([template, local.binding])), 0, 8)}"
  }
  latest   = try(var.canary.image, var.image)
  revision = local.revisions[local.latest]

  shares = (
    length(var.traffic) > 0 ? var.traffic :
    var.canary == null ? [{ revision = null, percent = 100, tag = null }] :
    [
      { revision = local.revisions[var.image], percent = 100 - var.canary.percent, tag = null },
      { revision = local.revision, percent = var.canary.percent, tag = null },
    ]
  )
  traffic = [for t in local.shares : {
    for k, v in { revisionName = t.revision, latestRevision = t.revision == null, percent = t.percent, tag = t.tag } : k => v if v != null
  }]
}

resource "kubectl_manifest" "service" {
  server_side_apply = true
  force_conflicts   = true
  # What the SinkBinding appends is no drift; what is missing of ours is.
  ignore_fields = concat(
    ["spec.template.spec.containers.0.env.#"],
    [for list in ["containers.0.volumeMounts", "volumes"] : "spec.template.spec.${list}.#" if length(local.mounted) > 0],
  )
  yaml_body = yamlencode({
    apiVersion = "serving.knative.dev/v1"
    kind       = "Service"
    metadata = {
      name      = var.name
      namespace = var.namespace
      labels = merge(
        local.labels,
        # With either policy of the SinkBindings' webhook it sees this Service.
        { "bindings.knative.dev/include" = "true" },
        { for k in ["networking.knative.dev/visibility"] : k => "cluster-local" if !var.public },
      )
      annotations = { "ebb.dev/manifest-sha256" = sha256(jsonencode(var.manifest)) }
    }
    spec = {
      template = {
        metadata = merge(local.templates[local.latest].metadata, { name = local.revision })
        spec     = local.templates[local.latest].spec
      }
      traffic = local.traffic
    }
  })

  lifecycle {
    precondition {
      condition     = var.secret != null || length(local.needs_secret) == 0
      error_message = "${var.name} needs a Secret with ${join(", ", local.needs_secret)}, and none is named."
    }
    precondition {
      condition     = !local.stateful || var.store != null
      error_message = "${var.name} keeps documents and has no store."
    }
    precondition {
      condition     = try(var.store.url, null) != "memory:" || (var.scale.min == 1 && var.scale.max == 1)
      error_message = "${var.name} would lose what it keeps in memory whenever a pod stops: give it a store, or scale.min and scale.max of 1 to try it out."
    }
    precondition {
      condition     = length(local.unknown_settings) == 0
      error_message = "${var.name} has no setting ${join(", ", local.unknown_settings)}; it has ${length(local.declared) > 0 ? join(", ", keys(local.declared)) : "none"}."
    }
    precondition {
      condition     = length(local.secret_settings) == 0
      error_message = "${join(", ", local.secret_settings)} of ${var.name} is secret: it belongs into its Secret."
    }
    precondition {
      condition     = length(local.missing_settings) == 0
      error_message = "${var.name} needs the setting ${join(", ", local.missing_settings)}."
    }
    precondition {
      condition     = local.trigger == null || var.timeout_seconds * 10 >= try(local.tenths.timeout, 0)
      error_message = "${var.name} is cut off after ${var.timeout_seconds} s, before its trigger gives up."
    }
    precondition {
      condition     = try(var.manifest.name, null) == var.name
      error_message = "${var.name} was given the manifest of ${try(var.manifest.name, "nobody")}."
    }
  }

  depends_on = [
    kubectl_manifest.service_account,
    module.sink_binding_wait,
    kubectl_manifest.network_policy,
  ]
}

module "wait" {
  source = "../wait"

  kubectl       = var.kubectl
  namespace     = var.namespace
  object        = "services.serving.knative.dev/${var.name}"
  seconds       = 300
  version_of_it = [kubectl_manifest.service.uid, sha256(kubectl_manifest.service.yaml_body_parsed)]
}

resource "kubectl_manifest" "service_account" {
  server_side_apply = true
  force_conflicts   = true
  yaml_body = yamlencode(merge({
    apiVersion = "v1"
    kind       = "ServiceAccount"
    metadata = {
      name        = var.name
      namespace   = var.namespace
      labels      = local.labels
      annotations = var.service_account_annotations
    }
    # Only to read the keys of the cluster's issuer.
    automountServiceAccountToken = var.sender_identity != null && local.trigger != null
    },
    # An empty list would take away what the cluster adds by itself.
    { for k in ["imagePullSecrets"] : k => [for name in var.image_pull_secrets : { name = name }] if length(var.image_pull_secrets) > 0 },
  ))
}
