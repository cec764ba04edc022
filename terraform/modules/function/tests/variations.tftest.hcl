# What differs from the example, one thing at a time.
provider "kubectl" {
  load_config_file = false
}

variables {
  name      = "greeter"
  namespace = "shop"
  image     = "registry.example.com/ebb:1"
  manifest  = { name = "greeter", routes = [{ method = "GET", path = "/api/greeting", access = "public" }] }
  broker    = { name = "default", ingress = { namespace = "knative-eventing", pod_labels = { app = "ingress" }, port = 8080 } }
  config    = { name = "ebb", keys = ["EBB_AUDIENCE", "EBB_ISSUER", "EBB_VERIFICATION_KEYS"], sha256 = "1" }
  ingress   = { namespaces = ["kourier-system"] }
}

run "neither_hears_nor_says" {
  command = plan

  assert {
    condition     = length(kubectl_manifest.trigger) == 0 && length(kubectl_manifest.sink_binding) == 0
    error_message = "A function without events has no trigger and no binding."
  }
  assert {
    condition     = length(yamldecode(kubectl_manifest.network_policy.yaml_body_parsed).spec.egress) == 1
    error_message = "It reaches names and nothing else."
  }
}

run "h2c" {
  command = plan

  variables {
    h2c = true
  }

  assert {
    condition     = yamldecode(kubectl_manifest.service.yaml_body_parsed).spec.template.spec.containers[0].ports == [{ containerPort = 8080, name = "h2c" }]
    error_message = "The name of the port tells Knative to send HTTP/2."
  }
  assert {
    condition     = yamldecode(kubectl_manifest.network_policy.yaml_body_parsed).spec.ingress[0].ports[0].port == 8013
    error_message = "Knative's proxy has another port for it."
  }
}

run "canary" {
  command = plan

  variables {
    canary = { image = "registry.example.com/ebb:2", percent = 10 }
  }

  assert {
    condition     = yamldecode(kubectl_manifest.service.yaml_body_parsed).spec.template.spec.containers[0].image == "registry.example.com/ebb:2"
    error_message = "The canary is the latest revision."
  }
  assert {
    condition = yamldecode(kubectl_manifest.service.yaml_body_parsed).spec.traffic == [
      { latestRevision = false, revisionName = run.neither_hears_nor_says.revision, percent = 90 },
      { latestRevision = false, revisionName = output.revision, percent = 10 },
    ]
    error_message = "The revision that was there before keeps the rest."
  }
}

run "canary_becomes_the_image" {
  command = plan

  variables {
    image = "registry.example.com/ebb:2"
  }

  assert {
    condition     = output.revision == run.canary.revision
    error_message = "The same template is the same revision."
  }
}

run "traffic_by_name" {
  command = plan

  variables {
    traffic = [{ revision = "greeter-00000001", percent = 100 }, { percent = 0, tag = "next" }]
  }

  assert {
    condition = yamldecode(kubectl_manifest.service.yaml_body_parsed).spec.traffic == [
      { latestRevision = false, percent = 100, revisionName = "greeter-00000001" },
      { latestRevision = true, percent = 0, tag = "next" },
    ]
    error_message = "Traffic goes where it was said."
  }
}

run "sender_identity" {
  command = plan

  variables {
    manifest = {
      name    = "greeter"
      trigger = { retry = 3, backoff = "linear", delay = "1m1.5s", timeout = "10s" }
    }
    dead_letter_sink = "archive"
    sender_identity = {
      api_server                = { cidrs = ["192.0.2.1/32"] }
      audience                  = "serving.knative.dev/service/shop/greeter"
      dead_letter_sink_audience = "serving.knative.dev/service/shop/archive"
      senders                   = ["system:serviceaccount:shop:one", "system:serviceaccount:shop:two"]
    }
  }

  assert {
    condition     = yamldecode(kubectl_manifest.trigger[0].yaml_body_parsed).spec.subscriber.audience == "serving.knative.dev/service/shop/greeter"
    error_message = "The broker makes its token for this function."
  }
  assert {
    condition     = yamldecode(kubectl_manifest.trigger[0].yaml_body_parsed).spec.delivery.deadLetterSink.audience == "serving.knative.dev/service/shop/archive"
    error_message = "And another one for the dead-letter sink."
  }
  assert {
    condition     = yamldecode(kubectl_manifest.trigger[0].yaml_body_parsed).spec.delivery.backoffDelay == "PT61.5S"
    error_message = "Durations are seconds."
  }
  assert {
    condition     = contains(yamldecode(kubectl_manifest.service.yaml_body_parsed).spec.template.spec.containers[0].env, { name = "EBB_SENDERS", value = "system:serviceaccount:shop:one,system:serviceaccount:shop:two" })
    error_message = "The function knows who may send."
  }
  assert {
    condition     = yamldecode(kubectl_manifest.service_account.yaml_body_parsed).automountServiceAccountToken
    error_message = "It has a token to read the issuer's keys with."
  }
  assert {
    condition     = contains(yamldecode(kubectl_manifest.network_policy.yaml_body_parsed).spec.egress, { to = [{ ipBlock = { cidr = "192.0.2.1/32" } }], ports = [{ port = 6443, protocol = "TCP" }] })
    error_message = "And reaches the API server for it."
  }
}

run "dead_letter_sink" {
  command = plan

  variables {
    manifest         = { name = "greeter", dead_letters = true, trigger = { retry = 3, backoff = "linear", delay = "1s", timeout = "10s" } }
    dead_letter_sink = "greeter"
  }

  assert {
    condition     = !can(yamldecode(kubectl_manifest.trigger[0].yaml_body_parsed).spec.delivery.deadLetterSink)
    error_message = "Who takes dead letters has none of its own."
  }
}

run "client" {
  command = plan

  variables {
    manifest = { name = "greeter", settings = [{ variable = "EBB_CONSOLE_API", default = "http://gateway.default.svc.cluster.local" }] }
  }

  assert {
    condition     = contains(yamldecode(kubectl_manifest.service.yaml_body_parsed).spec.template.spec.containers[0].env, { name = "EBB_CONSOLE_API", value = "http://gateway.shop.svc.cluster.local" })
    error_message = "It finds the gateway of its own namespace."
  }
  assert {
    condition = contains(yamldecode(kubectl_manifest.network_policy.yaml_body_parsed).spec.egress, {
      to    = [{ namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = "kourier-system" } } }]
      ports = [{ port = 8081, protocol = "TCP" }]
    })
    error_message = "It may call the gateway."
  }
}

run "front" {
  command = plan

  variables {
    public   = true
    manifest = { name = "greeter", front = true, settings = [{ variable = "EBB_FUNCTION_URL", default = "http://{function}.default.svc.cluster.local" }] }
  }

  assert {
    condition     = !contains(keys(yamldecode(kubectl_manifest.service.yaml_body_parsed).metadata.labels), "networking.knative.dev/visibility")
    error_message = "What is public has no cluster-local route."
  }
  assert {
    condition     = contains(yamldecode(kubectl_manifest.service.yaml_body_parsed).spec.template.spec.containers[0].env, { name = "EBB_FUNCTION_URL", value = "http://{function}.shop.svc.cluster.local" })
    error_message = "It finds the functions of its own namespace."
  }
  assert {
    condition = contains(yamldecode(kubectl_manifest.network_policy.yaml_body_parsed).spec.egress, {
      to    = [{ namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = "kourier-system" } } }]
      ports = [{ port = 8081, protocol = "TCP" }]
    })
    error_message = "It calls functions through Knative's gateways."
  }
}

run "private_registry" {
  command = plan

  variables {
    image_pull_secrets = ["registry"]
  }

  assert {
    condition     = yamldecode(kubectl_manifest.service_account.yaml_body_parsed).imagePullSecrets == [{ name = "registry" }]
    error_message = "The service account reads the registry."
  }
}

run "speaks" {
  command = plan

  variables {
    manifest = { name = "greeter", says = ["dev.ebb.greeter.greeted.v1"], hash = "abc" }
  }

  assert {
    condition     = yamldecode(kubectl_manifest.sink_binding[0].yaml_body_parsed).spec.subject.selector.matchLabels["app.kubernetes.io/name"] == yamldecode(kubectl_manifest.service.yaml_body_parsed).metadata.labels["app.kubernetes.io/name"]
    error_message = "The binding finds the Service by its label."
  }
  assert {
    condition     = contains(yamldecode(kubectl_manifest.service.yaml_body_parsed).spec.template.spec.containers[0].env, { name = "EBB_MANIFEST_HASH", value = "abc" })
    error_message = "A manifest that has a hash tells it to the function."
  }
}

run "speaks_to_another_broker" {
  command = plan

  variables {
    manifest = { name = "greeter", says = ["dev.ebb.greeter.greeted.v1"], hash = "abc" }
    broker   = { name = "another", ingress = { namespace = "knative-eventing", pod_labels = { app = "ingress" }, port = 8080 } }
  }

  assert {
    condition     = output.revision != run.speaks.revision
    error_message = "What the binding adds makes another revision."
  }
}

run "secrets_by_reference" {
  command = plan

  variables {
    secret = "greeter"
    manifest = {
      name     = "greeter"
      settings = [{ variable = "A_KEY", secret = true, required = true }, { variable = "B_KEY", secret = true }, { variable = "C_NAME", default = "c" }]
    }
    settings = { C_NAME = "see" }
  }

  assert {
    condition = yamldecode(kubectl_manifest.service.yaml_body_parsed).spec.template.spec.containers[0].env == [
      { name = "C_NAME", value = "see" },
      { name = "FUNCTION", value = "greeter" },
      { name = "A_KEY", valueFrom = { secretKeyRef = { name = "greeter", key = "A_KEY", optional = false } } },
      { name = "B_KEY", valueFrom = { secretKeyRef = { name = "greeter", key = "B_KEY", optional = true } } },
    ]
    error_message = "Secret variables are named and never said."
  }
}

run "another_delivery" {
  command = plan

  variables {
    manifest = {
      name    = "greeter"
      trigger = { retry = 10, backoff = "exponential", delay = "50ms", timeout = "30s" }
    }
    dead_letter_sink = "archive"
    delivery         = { retry = 14, timeout = "45s", batch = 16 }
  }

  assert {
    condition = { for k in ["retry", "backoffPolicy", "backoffDelay", "timeout"] : k => yamldecode(kubectl_manifest.trigger[0].yaml_body_parsed).spec.delivery[k] } == {
      retry = 14, backoffPolicy = "exponential", backoffDelay = "PT0.1S", timeout = "PT45S"
    }
    error_message = "The environment changes what it names and nothing else."
  }
  assert {
    condition     = contains(yamldecode(kubectl_manifest.service.yaml_body_parsed).spec.template.spec.containers[0].env, { name = "EBB_DELIVERY", value = "timeout=45s,batch=16" })
    error_message = "The function knows its timeout and its batch."
  }
}

run "metrics_by_token" {
  command = plan

  variables {
    metrics_secret = "ebb-metrics"
  }
  assert {
    condition = contains(yamldecode(kubectl_manifest.service.yaml_body_parsed).spec.template.spec.containers[0].env, {
      name = "EBB_METRICS_TOKEN", valueFrom = { secretKeyRef = { name = "ebb-metrics", key = "EBB_METRICS_TOKEN", optional = false } }
    })
    error_message = "Metrics are shown to those who have the token of the Secret."
  }
}

run "monitor" {
  command = plan

  variables {
    metrics_secret = "ebb-metrics"
    monitor        = { namespace = "monitoring", labels = { release = "prometheus" } }
  }
  assert {
    condition = yamldecode(kubectl_manifest.pod_monitor[0].yaml_body_parsed).spec.podMetricsEndpoints == [{
      port          = "user-port", path = "/metrics", interval = "30s"
      authorization = { type = "Bearer", credentials = { name = "ebb-metrics", key = "EBB_METRICS_TOKEN" } }
    }]
    error_message = "Prometheus shows the token of the Secret."
  }
  assert {
    condition     = yamldecode(kubectl_manifest.pod_monitor[0].yaml_body_parsed).metadata.labels.release == "prometheus"
    error_message = "Prometheus selects the monitor by its labels."
  }
  assert {
    condition = yamldecode(kubectl_manifest.network_policy.yaml_body_parsed).spec.ingress[2] == {
      from  = [{ namespaceSelector = { matchLabels = { "kubernetes.io/metadata.name" = "monitoring" } } }]
      ports = [{ port = 8080, protocol = "TCP" }]
    }
    error_message = "The network policy lets it in."
  }
}

run "no_monitor" {
  command = plan

  assert {
    condition     = length(kubectl_manifest.pod_monitor) == 0 && length(yamldecode(kubectl_manifest.network_policy.yaml_body_parsed).spec.ingress) == 2
    error_message = "Without a Prometheus there is no monitor, and nobody else is let in."
  }
}

run "monitor_without_a_token" {
  command = plan

  variables {
    monitor = { namespace = "monitoring" }
  }
  expect_failures = [kubectl_manifest.pod_monitor]
}

run "mounted_keys" {
  command = plan

  variables {
    signing_keys = "ebb-signing-keys"
  }

  assert {
    condition = yamldecode(kubectl_manifest.service.yaml_body_parsed).spec.template.spec.volumes == [
      { name = "keys", secret = { secretName = "ebb-signing-keys", items = [{ key = "verification.json", path = "verification.json" }] } },
    ]
    error_message = "A function sees the public keys alone."
  }
  assert {
    condition     = yamldecode(kubectl_manifest.service.yaml_body_parsed).spec.template.spec.containers[0].volumeMounts == [{ name = "keys", mountPath = "/etc/ebb/keys", readOnly = true }]
    error_message = "They are mounted as a directory, which the kubelet changes."
  }
  assert {
    condition     = [for e in yamldecode(kubectl_manifest.service.yaml_body_parsed).spec.template.spec.containers[0].env : try(e.value, null) if e.name == "EBB_VERIFICATION_KEYS"] == ["file:/etc/ebb/keys/verification.json"]
    error_message = "They are a file, and no variable of the ConfigMap beside it."
  }
}

run "mounted_private_keys" {
  command = plan

  variables {
    manifest = {
      name     = "greeter"
      routes   = [{ method = "POST", path = "/api/sessions", access = "public" }]
      settings = [{ variable = "EBB_SIGNING_KEYS", secret = true, required = true }]
    }
    signing_keys = "ebb-signing-keys"
  }

  assert {
    condition = [for i in yamldecode(kubectl_manifest.service.yaml_body_parsed).spec.template.spec.volumes[0].secret.items : i.key] == [
      "signing.json", "verification.json",
    ]
    error_message = "The function that signs sees the private keys too."
  }
  assert {
    condition     = [for e in yamldecode(kubectl_manifest.service.yaml_body_parsed).spec.template.spec.containers[0].env : try(e.value, null) if e.name == "EBB_SIGNING_KEYS"] == ["file:/etc/ebb/keys/signing.json"]
    error_message = "They are in no other Secret, so it needs none."
  }
}

run "no_keys_to_mount" {
  command = plan

  variables {
    manifest     = { name = "greeter" }
    signing_keys = "ebb-signing-keys"
  }

  assert {
    condition     = !can(yamldecode(kubectl_manifest.service.yaml_body_parsed).spec.template.spec.volumes)
    error_message = "A function without operations checks no tokens."
  }
}
