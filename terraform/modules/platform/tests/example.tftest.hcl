# The example of the README, planned without a cluster.
provider "kubectl" {
  load_config_file = false
}

variables {
  namespace = "shop"
  manifest = {
    archive = { name = "archive", dead_letters = true, trigger = { retry = 10 } }
    clock   = { name = "clock", ticks = true, trigger = { retry = 10 } }
    gateway = { name = "gateway", front = true }
  }
  verification_keys = "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}"
}

run "broker" {
  command = plan

  assert {
    condition     = yamldecode(kubectl_manifest.broker.yaml_body_parsed).metadata.annotations["eventing.knative.dev/broker.class"] == "MTChannelBasedBroker"
    error_message = "The broker is of the class that every Knative has."
  }
  assert {
    condition = yamldecode(kubectl_manifest.broker.yaml_body_parsed).spec == {
      config = { apiVersion = "v1", kind = "ConfigMap", namespace = "knative-eventing", name = "config-br-default-channel" }
      delivery = {
        retry          = 10
        backoffPolicy  = "exponential"
        backoffDelay   = "PT0.1S"
        timeout        = "PT30S"
        deadLetterSink = { uri = "http://archive.shop.svc.cluster.local/events" }
      }
    }
    error_message = "Dead letters go to the function that takes them, whatever a trigger says."
  }
  assert {
    condition     = output.broker.ingress.pod_labels == tomap({ "eventing.knative.dev/brokerRole" = "ingress" })
    error_message = "Functions are told which pods take events in."
  }
}

run "clock" {
  command = plan

  assert {
    condition     = join(",", keys(kubectl_manifest.ticks)) == "clock"
    error_message = "A tick wakes the clock alone."
  }
  assert {
    condition = yamldecode(kubectl_manifest.ticks["clock"].yaml_body_parsed).spec == {
      schedule = "* * * * *"
      sink     = { ref = { apiVersion = "serving.knative.dev/v1", kind = "Service", namespace = "shop", name = "clock" }, uri = "/events" }
    }
    error_message = "Every minute, where events go."
  }
}

run "closed" {
  command = plan

  assert {
    condition     = yamldecode(kubectl_manifest.deny.yaml_body_parsed).spec.podSelector == {} && toset(yamldecode(kubectl_manifest.deny.yaml_body_parsed).spec.policyTypes) == toset(["Ingress", "Egress"])
    error_message = "Nothing gets in or out of any pod."
  }
  assert {
    condition     = !can(yamldecode(kubectl_manifest.deny.yaml_body_parsed).spec.ingress)
    error_message = "No ingress at all."
  }
  assert {
    condition     = toset(flatten([for rule in yamldecode(kubectl_manifest.deny.yaml_body_parsed).spec.egress : rule.ports[*].port])) == toset([53])
    error_message = "Only names are resolved."
  }
}

run "config" {
  command = plan

  assert {
    condition     = join(",", keys(yamldecode(kubectl_manifest.config.yaml_body_parsed).data)) == "EBB_AUDIENCE,EBB_ISSUER,EBB_VERIFICATION_KEYS"
    error_message = "What functions share is public knowledge."
  }
  assert {
    condition     = output.sender_identity == null
    error_message = "Without the switch nobody is asked who they are."
  }
}
