# Small, on what every Knative has.
locals {
  environment = {
    name      = "dev"
    namespace = "shop-dev"
    strict    = false

    broker              = { class = "MTChannelBasedBroker", async_channel = true } # an event is as safe as its channel's memory
    trigger_annotations = {}

    scale     = { "*" = { min = 0, max = 3 } }
    resources = { "*" = { requests = { cpu = "25m", memory = "32Mi" }, limits = { memory = "128Mi" } } }
  }
}
