# The namespace denies everything; this opens what the function declares and no more. A policy sees the pod's own
# addresses: requests come from Knative's gateways, or from its activator while pods start, to the queue-proxy.
resource "kubectl_manifest" "network_policy" {
  server_side_apply = true
  force_conflicts   = true
  yaml_body = yamlencode({
    apiVersion = "networking.k8s.io/v1"
    kind       = "NetworkPolicy"
    metadata   = { name = var.name, namespace = var.namespace, labels = local.labels }
    spec = {
      podSelector = { matchLabels = { "serving.knative.dev/service" = var.name } }
      policyTypes = ["Ingress", "Egress"]
      ingress = flatten([
        {
          from  = [for ns in var.ingress.namespaces : { namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = ns } } }]
          ports = [for port in concat(local.proxy_ports, local.mesh.ports) : { port = port, protocol = "TCP" }]
        },
        {
          from  = [{ namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = "knative-serving" } } }]
          ports = [for port in concat(local.proxy_ports, [9090], local.mesh.ports) : { port = port, protocol = "TCP" }]
        },
        # A mesh may stand between the kubelet and the pod: its probes come from here then.
        [for cidrs in [local.mesh.probes] : {
          from  = [for cidr in cidrs : { ipBlock = { cidr = cidr } }]
          ports = [for port in local.proxy_ports : { port = port, protocol = "TCP" }]
        } if length(cidrs) > 0],
        [for m in [var.monitor] : {
          from  = [{ namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = m.namespace } } }]
          ports = [for port in concat([8080], local.mesh.ports) : { port = port, protocol = "TCP" }]
        } if m != null],
      ])
      egress = concat(local.to_mesh, local.to_dns, local.to_broker, local.to_store, local.to_functions, local.to_api_server, var.egress)
    }
  })
}

locals {
  to_dns = [{
    to = concat(
      [{
        namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = var.dns.namespace } }
        podSelector       = { matchLabels = var.dns.pod_labels }
      }],
      [for cidr in var.dns.cidrs : { ipBlock = { cidr = cidr } }],
    )
    ports = [for protocol in ["UDP", "TCP"] : { port = 53, protocol = protocol }]
  }]

  to_broker = [for ingress in [var.broker.ingress] : {
    to = [{
      namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = ingress.namespace } }
      podSelector       = { matchLabels = ingress.pod_labels }
    }]
    ports = [for port in concat([ingress.port], local.mesh.ports) : { port = port, protocol = "TCP" }]
  } if length(local.says) > 0]

  to_store = [for port in [local.store_port] : {
    to    = [for cidr in var.store.cidrs : { ipBlock = { cidr = cidr } }]
    ports = [{ port = port, protocol = "TCP" }]
  } if port != null && local.stateful]

  # Only the gateway calls functions, and its client, the console, the gateway. They do so through Knative's own gateways.
  to_functions = [for port in [var.ingress.port] : {
    to    = [for ns in var.ingress.namespaces : { namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = ns } } }]
    ports = [for p in concat([port], local.mesh.ports) : { port = p, protocol = "TCP" }]
  } if local.front || local.client]

  # The proxy beside the pod asks its control plane where to go, and for its certificate.
  to_mesh = [for namespace, ports in local.mesh.control : {
    to    = [{ namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = namespace } } }]
    ports = [for port in ports : { port = port, protocol = "TCP" }]
  }]

  to_api_server = [for api in [try(var.sender_identity.api_server, null)] : {
    to    = [for cidr in api.cidrs : { ipBlock = { cidr = cidr } }]
    ports = [{ port = api.port, protocol = "TCP" }]
  } if api != null && local.trigger != null]
}
