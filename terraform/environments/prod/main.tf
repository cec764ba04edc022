# On Kafka, whose partitions keep order; the gateway and what an order waits for first never sleep.
locals {
  environment = {
    name      = "prod"
    namespace = "shop"
    strict    = true

    broker              = { class = "Kafka" }
    trigger_annotations = { "kafka.eventing.knative.dev/delivery.order" = "ordered" }

    scale = {
      "*"     = { min = 0, max = 20 }
      gateway = { min = 2, max = 50 }
      users   = { min = 1, max = 20 }
      orders  = { min = 1, max = 20 }
    }
    resources = {
      "*"     = { requests = { cpu = "100m", memory = "64Mi" }, limits = { memory = "256Mi" } }
      gateway = { requests = { cpu = "200m", memory = "64Mi" }, limits = { memory = "256Mi" } }
    }
  }
}
