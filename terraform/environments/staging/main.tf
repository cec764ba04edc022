# Like prod, but smaller: what works here works there.
locals {
  environment = {
    name      = "staging"
    namespace = "shop-staging"
    strict    = true

    broker              = { class = "Kafka" }
    trigger_annotations = { "kafka.eventing.knative.dev/delivery.order" = "ordered" }

    scale     = { "*" = { min = 0, max = 5 } }
    resources = { "*" = { requests = { cpu = "50m", memory = "32Mi" }, limits = { memory = "128Mi" } } }
  }
}
