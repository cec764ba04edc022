# What differs from the example, and what is refused.
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

run "kafka" {
  command = plan

  variables {
    broker = { class = "Kafka" }
  }

  assert {
    condition     = yamldecode(kubectl_manifest.broker.yaml_body_parsed).spec.config.name == "kafka-broker-config" && output.broker.ingress.pod_labels == tomap({ app = "kafka-broker-receiver" })
    error_message = "Kafka's broker has its own configuration and its own pods."
  }
}

run "async_channel" {
  command = plan

  variables {
    broker = { async_channel = true }
  }

  assert {
    condition     = yamldecode(kubectl_manifest.channel[0].yaml_body_parsed).metadata.annotations["messaging.knative.dev/async-handler"] == "true"
    error_message = "The channel answers at once."
  }
  assert {
    condition     = yamldecode(kubectl_manifest.channel[0].yaml_body_parsed).spec.delivery == yamldecode(kubectl_manifest.broker.yaml_body_parsed).spec.delivery
    error_message = "The Broker would write a channel anew that differs from what it wants."
  }
}

run "async_channel_of_another_class" {
  command = plan

  variables {
    broker = { class = "Kafka", async_channel = true }
  }

  expect_failures = [var.broker]
}

run "sender_identity" {
  command = plan

  variables {
    sender_identity = { api_server = { cidrs = ["192.0.2.1/32"] } }
  }

  assert {
    condition     = join(",", keys(output.sender_identity)) == "archive,clock"
    error_message = "Whoever hears events is told who sends them."
  }
  assert {
    condition = output.sender_identity.archive.senders == [
      "system:serviceaccount:shop:archive-oidc-eventing.knative.dev-trigger",
      "system:serviceaccount:shop:clock-oidc-eventing.knative.dev-trigger",
    ]
    error_message = "Dead letters come from every trigger."
  }
  assert {
    condition = output.sender_identity.clock.senders == [
      "system:serviceaccount:shop:clock-oidc-eventing.knative.dev-trigger",
      "system:serviceaccount:shop:clock-oidc-sources.knative.dev-pingsource",
    ]
    error_message = "Ticks come from the clock's source."
  }
  assert {
    condition     = yamldecode(kubectl_manifest.broker.yaml_body_parsed).spec.delivery.deadLetterSink.audience == "serving.knative.dev/service/shop/archive"
    error_message = "Dead letters carry a token for their sink."
  }
  assert {
    condition     = yamldecode(kubectl_manifest.ticks["clock"].yaml_body_parsed).spec.sink.audience == "serving.knative.dev/service/shop/clock"
    error_message = "Ticks carry a token for the clock."
  }
}

run "another_broker_says_its_pods" {
  command         = plan
  expect_failures = [var.broker]

  variables {
    broker = { class = "RabbitMQBroker" }
  }
}

run "no_keys" {
  command         = plan
  expect_failures = [var.verification_keys]

  variables {
    verification_keys = "{\"keys\":[]}"
  }
}

run "empty_keys" {
  command         = plan
  expect_failures = [var.verification_keys]

  variables {
    verification_keys = ""
  }
}

run "private_keys" {
  command         = plan
  expect_failures = [var.verification_keys]

  variables {
    verification_keys = "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\",\"d\":\"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A\"}]}"
  }
}

run "symmetric_keys" {
  command         = plan
  expect_failures = [var.verification_keys]

  variables {
    verification_keys = "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AyM1SysPpbyDfgZld3umj1qzKObwVMko\"}]}"
  }
}

run "namespace_of_others" {
  command         = plan
  expect_failures = [var.namespace]

  variables {
    namespace = "default"
  }
}

run "nobody_takes_dead_letters" {
  command         = plan
  expect_failures = [var.manifest]

  variables {
    manifest = { clock = { name = "clock", ticks = true } }
  }
}
