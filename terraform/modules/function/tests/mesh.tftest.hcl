# What a mesh changes: the pods join it, and the policies open its ports and nothing else.
provider "kubectl" {
  load_config_file = false
}

variables {
  name      = "gateway"
  namespace = "shop"
  image     = "registry.example.com/ebb:1"
  manifest  = { name = "gateway", front = true }
  broker    = { name = "default", ingress = { namespace = "knative-eventing", pod_labels = { app = "ingress" }, port = 8080 } }
  config    = { name = "ebb", keys = ["EBB_VERIFICATION_KEYS"], sha256 = "1" }
  ingress   = { namespaces = ["kourier-system"] }
}

run "none" {
  command = plan

  assert {
    condition     = !can(yamldecode(kubectl_manifest.service.yaml_body_parsed).spec.template.metadata.labels["istio.io/dataplane-mode"])
    error_message = "Without a mesh no pod joins one."
  }
  assert {
    condition     = !strcontains(kubectl_manifest.network_policy.yaml_body_parsed, "15008") && !strcontains(kubectl_manifest.network_policy.yaml_body_parsed, "4143")
    error_message = "Without a mesh none of its ports is open."
  }
}

run "istio_ambient" {
  command = plan

  variables {
    mesh = "istio-ambient"
  }

  assert {
    condition     = yamldecode(kubectl_manifest.service.yaml_body_parsed).spec.template.metadata.labels["istio.io/dataplane-mode"] == "ambient"
    error_message = "The pods join the mesh."
  }
  assert {
    condition     = alltrue([for rule in slice(yamldecode(kubectl_manifest.network_policy.yaml_body_parsed).spec.ingress, 0, 2) : contains(rule.ports[*].port, 15008)])
    error_message = "What comes in does so at the port of the mesh."
  }
  assert {
    condition     = yamldecode(kubectl_manifest.network_policy.yaml_body_parsed).spec.ingress[2] == { from = [{ ipBlock = { cidr = "169.254.7.127/32" } }], ports = [{ port = 8012, protocol = "TCP" }] }
    error_message = "The kubelet's probes come from the address of the mesh, to the port of the probes."
  }
  assert {
    condition     = contains(flatten([for rule in yamldecode(kubectl_manifest.network_policy.yaml_body_parsed).spec.egress : rule.ports[*].port]), 15008)
    error_message = "What goes out does so to the port of the mesh."
  }
}

run "linkerd" {
  command = plan

  variables {
    mesh = "linkerd"
  }

  assert {
    condition     = yamldecode(kubectl_manifest.service.yaml_body_parsed).spec.template.metadata.annotations["linkerd.io/inject"] == "enabled"
    error_message = "The pods get a proxy."
  }
  assert {
    condition     = contains(yamldecode(kubectl_manifest.network_policy.yaml_body_parsed).spec.ingress[0].ports[*].port, 4143)
    error_message = "What comes in does so at the port of the proxy."
  }
  assert {
    condition = [for rule in yamldecode(kubectl_manifest.network_policy.yaml_body_parsed).spec.egress : rule.ports[*].port
    if try(rule.to[0].namespaceSelector.matchLabels["kubernetes.io/metadata.name"], "") == "linkerd"] == [[8080, 8086, 8090]]
    error_message = "The proxy reaches its control plane."
  }
}

# A Prometheus in the mesh reaches the pods at the port of the mesh, too.
run "monitor" {
  command = plan

  variables {
    mesh           = "istio-ambient"
    monitor        = { namespace = "monitoring" }
    metrics_secret = "metrics"
  }

  assert {
    condition = [for rule in yamldecode(kubectl_manifest.network_policy.yaml_body_parsed).spec.ingress : rule.ports[*].port
    if try(rule.from[0].namespaceSelector.matchLabels["kubernetes.io/metadata.name"], "") == "monitoring"] == [[8080, 15008]]
    error_message = "Prometheus reaches the pods, inside of the mesh and outside."
  }
}

run "internal_tls" {
  command = plan

  variables {
    internal_tls = true
  }

  assert {
    condition     = contains(yamldecode(kubectl_manifest.network_policy.yaml_body_parsed).spec.ingress[0].ports[*].port, 8112)
    error_message = "Knative's proxy has another port for TLS."
  }
}

run "another_mesh" {
  command = plan

  variables {
    mesh = "istio"
  }

  expect_failures = [var.mesh]
}
