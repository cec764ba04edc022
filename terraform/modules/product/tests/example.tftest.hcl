# The example of the README, planned without a cluster and with the manifest of this repository.
provider "kubectl" {
  load_config_file = false
}

variables {
  manifest          = jsondecode(file("../../manifest.json"))
  namespace         = "shop"
  domain            = "example.com"
  image             = "registry.example.com/ebb:1"
  ingress           = { namespaces = ["kourier-system"] }
  stores            = { "*" = { url = "postgres://ebb_{function}@db.example.com/ebb_{function}", cidrs = ["192.0.2.10/32"] } }
  secrets           = { "*" = "ebb-{function}" }
  sender_identity   = null
  strict            = false
  verification_keys = "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}"
}

run "everything_of_the_manifest" {
  command = plan

  assert {
    condition     = toset(keys(output.revisions)) == toset(keys(var.manifest.functions))
    error_message = "Each function of the manifest is a service, and nothing else is."
  }
  assert {
    condition     = output.url == "http://gateway.shop.example.com"
    error_message = "The one that serves the outside is the gateway."
  }
}

# A capability that is added in Go is there on the next plan.
run "one_more" {
  command = plan

  variables {
    manifest = { functions = {
      archive  = { name = "archive", dead_letters = true, collections = [{ name = "events" }], trigger = { retry = 10, backoff = "exponential", delay = "50ms", timeout = "30s" } }
      gateway  = { name = "gateway", front = true }
      greeter  = { name = "greeter", says = ["dev.ebb.greeter.greeted.v1"] }
      farewell = { name = "farewell" }
    } }
  }

  assert {
    condition     = join(",", keys(output.revisions)) == "archive,farewell,gateway,greeter"
    error_message = "It needs to be listed nowhere else."
  }
}

run "by_name" {
  command = plan

  variables {
    images   = { orders = "registry.example.com/ebb:2" }
    canaries = { users = { image = "registry.example.com/ebb:2", percent = 10 } }
    scale    = { "*" = { max = 5 }, gateway = { min = 1, max = 3 } }
  }

  assert {
    condition     = alltrue([for name, r in output.revisions : r != run.everything_of_the_manifest.revisions[name]])
    error_message = "The scale is part of a revision."
  }
}

run "one_alone" {
  command = plan

  variables {
    images = { orders = "registry.example.com/ebb:2" }
  }

  assert {
    condition     = join(",", [for name, r in output.revisions : name if r != run.everything_of_the_manifest.revisions[name]]) == "orders"
    error_message = "Each function deploys alone."
  }
}

run "function_that_is_not" {
  command         = plan
  expect_failures = [terraform_data.checks]

  variables {
    images = { order = "registry.example.com/ebb:2" }
  }
}

run "strict_wants_digests" {
  command         = plan
  expect_failures = [terraform_data.checks]

  variables {
    strict          = true
    sender_identity = { api_server = { cidrs = ["192.0.2.1/32"] } }
  }
}

run "strict_wants_senders" {
  command         = plan
  expect_failures = [terraform_data.checks]

  variables {
    strict = true
    image  = "registry.example.com/ebb@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  }
}

run "strict" {
  command = plan

  variables {
    strict          = true
    image           = "registry.example.com/ebb@sha256:0000000000000000000000000000000000000000000000000000000000000000"
    sender_identity = { api_server = { cidrs = ["192.0.2.1/32"] } }
  }
}

run "strict_wants_no_store_in_memory" {
  command         = plan
  expect_failures = [terraform_data.checks]

  variables {
    strict          = true
    image           = "registry.example.com/ebb@sha256:0000000000000000000000000000000000000000000000000000000000000000"
    sender_identity = { api_server = { cidrs = ["192.0.2.1/32"] } }
    stores          = { "*" = { url = "memory:" } }
    scale           = { "*" = { min = 1, max = 1 } }
  }
}

run "no_front" {
  command         = plan
  expect_failures = [var.manifest]

  variables {
    manifest = { functions = { archive = { name = "archive", dead_letters = true } } }
  }
}

run "keys_that_rotate" {
  command = plan

  variables {
    signing_keys      = { secret = "ebb-signing-keys", api_server = { cidrs = ["192.0.2.1/32"] } }
    verification_keys = null
  }

  assert {
    condition     = module.keys[0].name == "rotate-keys"
    error_message = "Something rotates them."
  }
  assert {
    condition     = alltrue([for name, r in output.revisions : r != run.everything_of_the_manifest.revisions[name]])
    error_message = "Each function mounts them."
  }
}

run "keys_in_two_places" {
  command         = plan
  expect_failures = [var.signing_keys]

  variables {
    signing_keys = { secret = "ebb-signing-keys", api_server = { cidrs = ["192.0.2.1/32"] } }
  }
}

run "keys_in_no_place" {
  command         = plan
  expect_failures = [var.signing_keys]

  variables {
    verification_keys = null
  }
}
