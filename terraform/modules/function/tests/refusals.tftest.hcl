# What would go wrong on the cluster fails at plan, with a sentence.
provider "kubectl" {
  load_config_file = false
}

variables {
  name      = "greeter"
  namespace = "shop"
  image     = "registry.example.com/ebb:1"
  manifest  = { name = "greeter" }
  broker    = { name = "default", ingress = { namespace = "knative-eventing", pod_labels = { app = "ingress" }, port = 8080 } }
  config    = { name = "ebb", keys = [], sha256 = "1" }
  ingress   = { namespaces = ["kourier-system"] }
}

run "no_secret" {
  command         = plan
  expect_failures = [kubectl_manifest.service]

  variables {
    manifest = { name = "greeter", settings = [{ variable = "A_KEY", secret = true, required = true }] }
  }
}

run "no_password" {
  command         = plan
  expect_failures = [kubectl_manifest.service]

  variables {
    manifest = { name = "greeter", collections = [{ name = "greetings" }] }
    store    = { url = "postgres://greeter@db.example.com/greeter", cidrs = ["192.0.2.10/32"] }
  }
}

run "no_store" {
  command         = plan
  expect_failures = [kubectl_manifest.service]

  variables {
    manifest = { name = "greeter", collections = [{ name = "greetings" }] }
  }
}

run "store_in_memory_of_many_pods" {
  command         = plan
  expect_failures = [kubectl_manifest.service]

  variables {
    manifest = { name = "greeter", collections = [{ name = "greetings" }] }
    store    = { url = "memory:" }
  }
}

run "store_with_a_password" {
  command         = plan
  expect_failures = [var.store]

  variables {
    store = { url = "postgres://greeter:hunter2@db.example.com/greeter", cidrs = ["192.0.2.10/32"] }
  }
}

run "store_nobody_reaches" {
  command         = plan
  expect_failures = [var.store]

  variables {
    store = { url = "firestore://project/database" }
  }
}

run "store_with_a_typo" {
  command         = plan
  expect_failures = [var.store]

  variables {
    store = { url = "postgre://greeter@db.example.com/greeter", cidrs = ["192.0.2.10/32"] }
  }
}

run "setting_that_is_not" {
  command         = plan
  expect_failures = [kubectl_manifest.service]

  variables {
    settings = { EBB_GREETNG = "hello" }
  }
}

run "secret_in_the_open" {
  command         = plan
  expect_failures = [kubectl_manifest.service]

  variables {
    manifest = { name = "greeter", settings = [{ variable = "A_KEY", secret = true }] }
    settings = { A_KEY = "hunter2" }
  }
}

run "setting_missing" {
  command         = plan
  expect_failures = [kubectl_manifest.service]

  variables {
    manifest = { name = "greeter", settings = [{ variable = "GREETING", required = true }] }
  }
}

run "another_ones_manifest" {
  command         = plan
  expect_failures = [kubectl_manifest.service]

  variables {
    manifest = { name = "orders" }
  }
}

run "cut_off_before_the_broker_gives_up" {
  command         = plan
  expect_failures = [kubectl_manifest.service]

  variables {
    manifest         = { name = "greeter", trigger = { retry = 3, backoff = "linear", delay = "1s", timeout = "2m0s" } }
    dead_letter_sink = "archive"
  }
}

run "nobody_takes_dead_letters" {
  command         = plan
  expect_failures = [kubectl_manifest.trigger]

  variables {
    manifest = { name = "greeter", trigger = { retry = 3, backoff = "linear", delay = "1s", timeout = "2s" } }
  }
}

run "scale_without_bound" {
  command         = plan
  expect_failures = [var.scale]

  variables {
    scale = { max = 0 }
  }
}

run "shares_that_do_not_add_up" {
  command         = plan
  expect_failures = [var.traffic]

  variables {
    traffic = [{ percent = 90 }]
  }
}

run "nobody_reaches_it" {
  command         = plan
  expect_failures = [var.ingress]

  variables {
    ingress = { namespaces = [] }
  }
}

run "no_image" {
  command         = plan
  expect_failures = [var.image]

  variables {
    image = ""
  }
}

run "canary_of_more_than_all" {
  command         = plan
  expect_failures = [var.canary]

  variables {
    canary = { image = "registry.example.com/ebb:2", percent = 110 }
  }
}

run "sender_identity_without_keys" {
  command         = plan
  expect_failures = [var.sender_identity]

  variables {
    sender_identity = { api_server = { cidrs = [] }, audience = "greeter", senders = ["system:serviceaccount:shop:one"] }
  }
}
