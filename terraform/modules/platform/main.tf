locals {
  known = {
    MTChannelBasedBroker = {
      config     = "config-br-default-channel"
      pod_labels = { "eventing.knative.dev/brokerRole" = "ingress" }
    }
    Kafka = {
      config     = "kafka-broker-config"
      pod_labels = { app = "kafka-broker-receiver" }
    }
  }
  config = var.broker.config != null ? var.broker.config : {
    api_version = "v1", kind = "ConfigMap", namespace = "knative-eventing", name = local.known[var.broker.class].config
  }
  ingress = var.broker.ingress != null ? var.broker.ingress : {
    namespace = "knative-eventing", pod_labels = local.known[var.broker.class].pod_labels, port = 8080
  }

  labels = {
    "app.kubernetes.io/part-of"    = "ebb"
    "app.kubernetes.io/managed-by" = "terraform"
  }

  delivery = {
    retry         = var.delivery.retry
    backoffPolicy = var.delivery.backoff_policy
    backoffDelay  = var.delivery.backoff_delay
    timeout       = var.delivery.timeout
    # By address: the function needs the Broker to start, so a reference would have each wait for the other.
    deadLetterSink = merge(
      { uri = "http://${local.dead_letter_sink}.${var.namespace}.svc.cluster.local/events" },
      { for k in ["audience"] : k => local.audiences[local.dead_letter_sink] if var.sender_identity != null },
    )
  }

  dead_letter_sink = one([for name, m in var.manifest : name if try(m.dead_letters, false)])
  audiences        = { for name, m in var.manifest : name => "serving.knative.dev/service/${var.namespace}/${name}" }
}

# Goes last, and is waited for: with it goes whatever Knative made of the rest.
resource "kubectl_manifest" "namespace" {
  server_side_apply = true
  force_conflicts   = true
  wait              = true
  yaml_body = yamlencode({
    apiVersion = "v1"
    kind       = "Namespace"
    metadata = {
      name   = var.namespace
      labels = merge(local.labels, { "bindings.knative.dev/include" = "true" }, var.labels)
    }
  })
}

# Class and configuration of a Broker cannot be changed: another one takes its place.
resource "terraform_data" "broker_class" {
  input = [var.broker.class, local.config]
}

# The Broker takes the channel of this name for its own, and would make it without the annotation, which the dispatcher
# looks at only when it first hears of the channel.
resource "kubectl_manifest" "channel" {
  count = var.broker.async_channel ? 1 : 0

  server_side_apply = true
  force_conflicts   = true
  wait              = true
  yaml_body = yamlencode({
    apiVersion = "messaging.knative.dev/v1"
    kind       = "InMemoryChannel"
    metadata = {
      name      = "${var.broker.name}-kne-trigger"
      namespace = var.namespace
      labels = merge(local.labels, {
        "eventing.knative.dev/broker"           = var.broker.name
        "eventing.knative.dev/brokerEverything" = "true"
      })
      annotations = {
        "eventing.knative.dev/scope"          = "cluster"
        "messaging.knative.dev/async-handler" = "true"
      }
    }
    # The Broker's own, as the labels are. Where they differ the Broker writes the channel anew, without the annotation.
    spec = { delivery = local.delivery }
  })

  depends_on = [kubectl_manifest.namespace]
}

module "channel_wait" {
  source = "../wait"
  count  = var.broker.async_channel ? 1 : 0

  kubectl       = var.kubectl
  namespace     = var.namespace
  object        = "inmemorychannels.messaging.knative.dev/${var.broker.name}-kne-trigger"
  version_of_it = [kubectl_manifest.channel[0].uid]
}

resource "kubectl_manifest" "broker" {
  server_side_apply = true
  force_conflicts   = true
  wait              = true
  yaml_body = yamlencode({
    apiVersion = "eventing.knative.dev/v1"
    kind       = "Broker"
    metadata = {
      name        = var.broker.name
      namespace   = var.namespace
      labels      = local.labels
      annotations = { "eventing.knative.dev/broker.class" = var.broker.class }
    }
    spec = {
      config = {
        apiVersion = local.config.api_version
        kind       = local.config.kind
        namespace  = local.config.namespace
        name       = local.config.name
      }
      delivery = local.delivery
    }
  })

  lifecycle {
    replace_triggered_by = [terraform_data.broker_class]
  }

  depends_on = [kubectl_manifest.namespace, module.channel_wait]
}

module "broker_wait" {
  source = "../wait"

  kubectl       = var.kubectl
  namespace     = var.namespace
  object        = "brokers.eventing.knative.dev/${var.broker.name}"
  version_of_it = [kubectl_manifest.broker.uid, sha256(kubectl_manifest.broker.yaml_body_parsed)]
}

resource "kubectl_manifest" "ticks" {
  for_each = toset([for name, m in var.manifest : name if try(m.ticks, false)])

  server_side_apply = true
  force_conflicts   = true
  yaml_body = yamlencode({
    apiVersion = "sources.knative.dev/v1"
    kind       = "PingSource"
    metadata   = { name = each.key, namespace = var.namespace, labels = local.labels }
    spec = {
      schedule = var.schedule
      sink = merge(
        { ref = { apiVersion = "serving.knative.dev/v1", kind = "Service", namespace = var.namespace, name = each.key }, uri = "/events" },
        { for k in ["audience"] : k => local.audiences[each.key] if var.sender_identity != null },
      )
    }
  })

  depends_on = [kubectl_manifest.namespace]
}

locals {
  shared = { for k, v in {
    EBB_ISSUER            = var.issuer
    EBB_AUDIENCE          = var.audience
    EBB_VERIFICATION_KEYS = var.verification_keys
  } : k => v if v != null }
}

resource "kubectl_manifest" "config" {
  server_side_apply = true
  force_conflicts   = true
  yaml_body = yamlencode({
    apiVersion = "v1"
    kind       = "ConfigMap"
    metadata   = { name = "ebb", namespace = var.namespace, labels = local.labels }
    data       = local.shared
  })

  depends_on = [kubectl_manifest.namespace]
}

# Nothing gets in or out; each function opens what it declares.
resource "kubectl_manifest" "deny" {
  server_side_apply = true
  force_conflicts   = true
  yaml_body = yamlencode({
    apiVersion = "networking.k8s.io/v1"
    kind       = "NetworkPolicy"
    metadata   = { name = "deny", namespace = var.namespace, labels = local.labels }
    spec = {
      podSelector = {}
      policyTypes = ["Ingress", "Egress"]
      egress = [{
        to = concat(
          [{
            namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = var.dns.namespace } }
            podSelector       = { matchLabels = var.dns.pod_labels }
          }],
          [for cidr in var.dns.cidrs : { ipBlock = { cidr = cidr } }],
        )
        ports = [for protocol in ["UDP", "TCP"] : { port = 53, protocol = protocol }]
      }]
    }
  })

  depends_on = [kubectl_manifest.namespace]
}
