# The example of the README, planned without a cluster.
provider "kubectl" {
  load_config_file = false
}

variables {
  namespace = "shop"
  domain    = "example.com"
  image     = "registry.example.com/ebb:1"
  manifest  = { name = "gateway", front = true }
  broker    = { name = "default", ingress = { namespace = "knative-eventing", pod_labels = { "eventing.knative.dev/brokerRole" = "ingress" }, port = 8080 } }
  config    = { name = "ebb", keys = ["EBB_VERIFICATION_KEYS"], sha256 = "1" }
  ingress   = { namespaces = ["kourier-system"] }
}

run "url" {
  command = plan

  assert {
    condition     = output.url == "http://gateway.shop.example.com"
    error_message = "Knative names it after itself, its namespace and the domain."
  }
  assert {
    condition     = length(kubectl_manifest.host) == 0
    error_message = "It has no other name."
  }
}

run "own_name" {
  command = plan

  variables {
    hosts  = ["shop.example.org"]
    scheme = "https"
  }

  assert {
    condition     = output.url == "https://shop.example.org"
    error_message = "Its own name comes first."
  }
  assert {
    condition     = yamldecode(kubectl_manifest.host["shop.example.org"].yaml_body_parsed).spec.ref.name == "gateway"
    error_message = "The name leads to the gateway."
  }
  assert {
    condition     = yamldecode(kubectl_manifest.claim["shop.example.org"].yaml_body_parsed).spec.namespace == "shop"
    error_message = "And is claimed for its namespace."
  }
}

run "nobody_else_is_public" {
  command         = plan
  expect_failures = [var.manifest]

  variables {
    manifest = { name = "orders" }
  }
}

run "strange_scheme" {
  command         = plan
  expect_failures = [var.scheme]

  variables {
    scheme = "ftp"
  }
}
