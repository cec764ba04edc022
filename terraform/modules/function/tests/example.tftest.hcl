# The example of the README, planned without a cluster.
provider "kubectl" {
  load_config_file = false
}

variables {
  name      = "orders"
  namespace = "shop"
  image     = "registry.example.com/ebb:1"
  manifest = {
    name        = "orders"
    routes      = [{ method = "POST", path = "/api/orders", access = "authenticated" }]
    hears       = ["dev.ebb.payments.authorized.v1"]
    says        = ["dev.ebb.orders.placed.v1"]
    collections = [{ name = "orders" }]
    settings    = [{ variable = "EBB_ORDERS_STEP_DEADLINE", default = "30s" }]
    trigger = {
      filters = [{ exact = { type = "dev.ebb.payments.authorized.v1" } }]
      retry   = 10, backoff = "exponential", delay = "50ms", timeout = "30s"
    }
  }
  broker           = { name = "default", ingress = { namespace = "knative-eventing", pod_labels = { "eventing.knative.dev/brokerRole" = "ingress" }, port = 8080 } }
  config           = { name = "ebb", keys = ["EBB_VERIFICATION_KEYS"], sha256 = "1" }
  dead_letter_sink = "archive"
  ingress          = { namespaces = ["kourier-system"] }
  secret           = "orders"
  store            = { url = "postgres://orders@db.example.com/orders", cidrs = ["192.0.2.10/32"] }
}

run "service" {
  command = plan

  assert {
    condition     = yamldecode(kubectl_manifest.service.yaml_body_parsed).metadata.labels["networking.knative.dev/visibility"] == "cluster-local"
    error_message = "A function that is not public has a cluster-local route."
  }
  assert {
    condition = yamldecode(kubectl_manifest.service.yaml_body_parsed).spec.template.spec.containers[0].securityContext == {
      allowPrivilegeEscalation = false
      capabilities             = { drop = ["ALL"] }
      readOnlyRootFilesystem   = true
      runAsNonRoot             = true
      seccompProfile           = { type = "RuntimeDefault" }
    }
    error_message = "The container may nothing."
  }
  assert {
    condition = yamldecode(kubectl_manifest.service.yaml_body_parsed).spec.template.spec.containers[0].env == [
      { name = "EBB_STORE", value = "postgres://orders@db.example.com/orders" },
      { name = "FUNCTION", value = "orders" },
      { name = "EBB_VERIFICATION_KEYS", valueFrom = { configMapKeyRef = { name = "ebb", key = "EBB_VERIFICATION_KEYS" } } },
      { name = "PGPASSWORD", valueFrom = { secretKeyRef = { name = "orders", key = "PGPASSWORD", optional = false } } },
    ]
    error_message = "Its environment is its store, its name, the shared keys and the role's password by reference."
  }
  assert {
    condition     = yamldecode(kubectl_manifest.service.yaml_body_parsed).spec.template.spec.containers[0].readinessProbe == { httpGet = { path = "/health/readiness" }, periodSeconds = 1, successThreshold = 1, failureThreshold = 3, timeoutSeconds = 1 }
    error_message = "Readiness is asked every second, and the rest is written as Knative would add it."
  }
  assert {
    condition     = yamldecode(kubectl_manifest.service.yaml_body_parsed).spec.template.metadata.annotations["autoscaling.knative.dev/min-scale"] == "0"
    error_message = "It scales to zero."
  }
  assert {
    condition     = yamldecode(kubectl_manifest.service.yaml_body_parsed).spec.template.metadata.name == output.revision && can(regex("^orders-[0-9a-f]{8}$", output.revision))
    error_message = "A revision is named after the function and what it is."
  }
  assert {
    condition     = yamldecode(kubectl_manifest.service.yaml_body_parsed).spec.traffic == [{ latestRevision = true, percent = 100 }]
    error_message = "The latest revision gets everything."
  }
  assert {
    condition     = yamldecode(kubectl_manifest.service_account.yaml_body_parsed).automountServiceAccountToken == false
    error_message = "It has no token of the cluster."
  }
  assert {
    condition     = !can(yamldecode(kubectl_manifest.service_account.yaml_body_parsed).imagePullSecrets)
    error_message = "What the cluster adds to read registries with is left alone."
  }
  assert {
    condition     = join(",", kubectl_manifest.service.ignore_fields) == "spec.template.spec.containers.0.env.#"
    error_message = "That the SinkBinding appends variables is no drift, and nothing else is ignored."
  }
}

run "events" {
  command = plan

  assert {
    condition = yamldecode(kubectl_manifest.trigger[0].yaml_body_parsed).spec == {
      broker     = "default"
      filters    = [{ exact = { type = "dev.ebb.payments.authorized.v1" } }]
      subscriber = { ref = { apiVersion = "serving.knative.dev/v1", kind = "Service", namespace = "shop", name = "orders" }, uri = "/events" }
      delivery = {
        retry          = 10
        backoffPolicy  = "exponential"
        backoffDelay   = "PT0.1S"
        timeout        = "PT30S"
        deadLetterSink = { ref = { apiVersion = "serving.knative.dev/v1", kind = "Service", namespace = "shop", name = "archive" }, uri = "/events" }
      }
    }
    error_message = "The trigger is what the manifest says, its durations in tenths of a second and rounded up."
  }
  assert {
    condition     = yamldecode(kubectl_manifest.sink_binding[0].yaml_body_parsed).spec.sink.ref.name == "default"
    error_message = "What it says goes to the broker."
  }
}

run "network" {
  command = plan

  assert {
    condition     = yamldecode(kubectl_manifest.network_policy.yaml_body_parsed).spec.podSelector.matchLabels == { "serving.knative.dev/service" = "orders" }
    error_message = "The policy is for its own pods."
  }
  assert {
    condition = yamldecode(kubectl_manifest.network_policy.yaml_body_parsed).spec.ingress == [
      {
        from  = [{ namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = "kourier-system" } } }]
        ports = [{ port = 8012, protocol = "TCP" }]
      },
      {
        from  = [{ namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = "knative-serving" } } }]
        ports = [{ port = 8012, protocol = "TCP" }, { port = 9090, protocol = "TCP" }]
      },
    ]
    error_message = "Only Knative reaches it."
  }
  assert {
    condition = yamldecode(kubectl_manifest.network_policy.yaml_body_parsed).spec.egress == [
      {
        to    = [{ namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = "kube-system" } }, podSelector = { matchLabels = { k8s-app = "kube-dns" } } }]
        ports = [{ port = 53, protocol = "UDP" }, { port = 53, protocol = "TCP" }]
      },
      {
        to    = [{ namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = "knative-eventing" } }, podSelector = { matchLabels = { "eventing.knative.dev/brokerRole" = "ingress" } } }]
        ports = [{ port = 8080, protocol = "TCP" }]
      },
      {
        to    = [{ ipBlock = { cidr = "192.0.2.10/32" } }]
        ports = [{ port = 5432, protocol = "TCP" }]
      },
    ]
    error_message = "It reaches names, the broker and its own store."
  }
}
