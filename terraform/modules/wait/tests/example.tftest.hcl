# The example of the README, planned: nothing is run.
variables {
  namespace     = "shop"
  object        = "broker/default"
  version_of_it = "1"
}

run "command" {
  command = plan

  assert {
    condition     = local.waits == ["kubectl --namespace='shop' wait 'broker/default' --for=condition=Ready --timeout=180s >/dev/null"]
    error_message = "It waits for Ready."
  }
}

run "another_cluster" {
  command = plan

  variables {
    conditions = ["Addressable", "Ready"]
    kubectl    = { context = "kind-ebb" }
  }

  assert {
    condition     = alltrue([for w in local.waits : startswith(w, "kubectl --context='kind-ebb' ")]) && length(local.waits) == 2
    error_message = "Each condition is waited for in the named cluster."
  }
}
