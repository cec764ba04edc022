# It reaches the API server and nothing else; nothing reaches it.
resource "kubectl_manifest" "network_policy" {
  server_side_apply = true
  force_conflicts   = true
  yaml_body = yamlencode({
    apiVersion = "networking.k8s.io/v1"
    kind       = "NetworkPolicy"
    metadata   = { name = var.name, namespace = var.namespace, labels = local.labels }
    spec = {
      podSelector = { matchLabels = { "app.kubernetes.io/name" = var.name } }
      policyTypes = ["Ingress", "Egress"]
      egress = [{
        to    = [for cidr in var.api_server.cidrs : { ipBlock = { cidr = cidr } }]
        ports = [{ port = var.api_server.port, protocol = "TCP" }]
      }]
    }
  })
}
