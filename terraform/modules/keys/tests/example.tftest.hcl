# The example of the README, planned without a cluster.
provider "kubectl" {
  load_config_file = false
}

variables {
  namespace  = "shop"
  image      = "registry.example.com/ebb:1"
  secret     = "ebb-signing-keys"
  api_server = { cidrs = ["192.0.2.1/32"] }
}

run "rights" {
  command = plan

  assert {
    condition = yamldecode(kubectl_manifest.role.yaml_body_parsed).rules == [
      { apiGroups = [""], resources = ["secrets"], resourceNames = ["ebb-signing-keys"], verbs = ["get", "update"] },
    ]
    error_message = "It may read and change the one Secret, and nothing else."
  }
  assert {
    condition = (
      yamldecode(kubectl_manifest.role_binding.yaml_body_parsed).subjects == [{ kind = "ServiceAccount", name = "rotate-keys", namespace = "shop" }] &&
      yamldecode(kubectl_manifest.role_binding.yaml_body_parsed).roleRef == { apiGroup = "rbac.authorization.k8s.io", kind = "Role", name = "rotate-keys" }
    )
    error_message = "The role is that of its own ServiceAccount, which no function uses."
  }
  assert {
    condition = yamldecode(kubectl_manifest.network_policy.yaml_body_parsed).spec == {
      podSelector = { matchLabels = { "app.kubernetes.io/name" = "rotate-keys" } }
      policyTypes = ["Ingress", "Egress"]
      egress      = [{ to = [{ ipBlock = { cidr = "192.0.2.1/32" } }], ports = [{ port = 6443, protocol = "TCP" }] }]
    }
    error_message = "It reaches the API server and nothing else."
  }
}

run "job" {
  command = plan

  assert {
    condition     = yamldecode(kubectl_manifest.rotation.yaml_body_parsed).spec.schedule == "17 3 1 * *" && yamldecode(kubectl_manifest.rotation.yaml_body_parsed).spec.concurrencyPolicy == "Forbid"
    error_message = "It runs by schedule, one at a time."
  }
  assert {
    condition     = yamldecode(kubectl_manifest.rotation.yaml_body_parsed).spec.jobTemplate.spec.template.spec.containers[0].args == ["rotate-keys", "--secret", "ebb-signing-keys", "--in", "1h", "--keep", "1h"]
    error_message = "It rotates the keys of the Secret."
  }
  assert {
    condition = (
      yamldecode(kubectl_manifest.rotation.yaml_body_parsed).spec.jobTemplate.spec.template.spec.serviceAccountName == "rotate-keys" &&
      yamldecode(kubectl_manifest.rotation.yaml_body_parsed).spec.jobTemplate.spec.template.spec.securityContext.runAsNonRoot &&
      yamldecode(kubectl_manifest.rotation.yaml_body_parsed).spec.jobTemplate.spec.template.spec.containers[0].securityContext == {
        allowPrivilegeEscalation = false
        capabilities             = { drop = ["ALL"] }
        readOnlyRootFilesystem   = true
      }
    )
    error_message = "The container may nothing that its ServiceAccount may not."
  }
  assert {
    condition     = yamldecode(kubectl_manifest.rotation.yaml_body_parsed).spec.jobTemplate.spec.template.metadata.labels["app.kubernetes.io/name"] == "rotate-keys"
    error_message = "The network policy finds its pods."
  }
}

run "without_addresses" {
  command = plan

  variables {
    api_server = { cidrs = [] }
  }

  expect_failures = [var.api_server]
}

run "no_lead" {
  command = plan

  variables {
    lead = "30s"
  }

  expect_failures = [var.lead]
}
