# Prometheus reads each pod itself, past Knative's proxies: a request to the route would start a pod, and would be
# answered by any of them.
resource "kubectl_manifest" "pod_monitor" {
  count = var.monitor == null ? 0 : 1

  server_side_apply = true
  force_conflicts   = true
  yaml_body = yamlencode({
    apiVersion = "monitoring.coreos.com/v1"
    kind       = "PodMonitor"
    metadata   = { name = var.name, namespace = var.namespace, labels = merge(local.labels, var.monitor.labels) }
    spec = {
      selector = { matchLabels = { "serving.knative.dev/service" = var.name } }
      # The rules for objectives count in classic buckets.
      scrapeClassicHistograms = true
      scrapeProtocols         = ["PrometheusProto", "OpenMetricsText1.0.0", "PrometheusText1.0.0", "PrometheusText0.0.4"]
      podMetricsEndpoints = [{
        port          = "user-port" # as Knative names the port of the container
        path          = "/metrics"
        interval      = var.monitor.interval
        authorization = { type = "Bearer", credentials = { name = var.metrics_secret, key = "EBB_METRICS_TOKEN" } }
      }]
    }
  })

  lifecycle {
    precondition {
      condition     = var.metrics_secret != null
      error_message = "Prometheus can read the metrics of ${var.name} only with a token: name its Secret in metrics_secret."
    }
  }
}
