# The example of the README. The provider is mocked, but has to be there: see terraform/README.md.
mock_provider "aws" {}

variables {
  name              = "shop-dev"
  account           = { id = "123456789012", region = "eu-central-1" }
  manifest          = jsondecode(file("../../../manifest.json"))
  package           = "variables.tf"
  secrets           = { "*" = { EBB_PERSONAL_KEYS = "arn:aws:ssm:eu-central-1:123456789012:parameter/shop-dev/EBB_PERSONAL_KEYS" }, users = { EBB_SIGNING_KEYS = "arn:aws:ssm:eu-central-1:123456789012:parameter/shop-dev/EBB_SIGNING_KEYS" } }
  verification_keys = "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}"
}

run "everything_of_the_manifest" {
  command = plan

  assert {
    condition     = toset(keys(output.functions)) == toset(keys(var.manifest.functions))
    error_message = "Each function of the manifest is a Lambda function, and nothing else is."
  }
  assert {
    condition     = toset(keys(output.queues)) == toset([for name, f in var.manifest.functions : name if can(f.trigger)])
    error_message = "Each trigger has a queue."
  }
  assert {
    condition = alltrue(flatten([for name, f in var.manifest.functions : [
      for r in try(f.routes, []) : output.routes["${r.method} ${r.path}"] == name
    ]]))
    error_message = "Each operation has a route."
  }
  # What a function consumes is let through by its policy.
  assert {
    condition = alltrue([for name, q in output.queues : alltrue([
      for type in try(var.manifest.functions[name].hears, []) : try(contains(q.policy.type, type), type == "*")
    ])])
    error_message = "Nothing that is consumed is left out."
  }
  # Nobody but its function has a table or a queue, and only those that emit publish events.
  assert {
    condition = alltrue(flatten([for name, statements in output.statements : [for s in statements : [for r in s.Resource : (
      s.Sid == "Documents" ? endswith(r, "/shop-dev-${name}") :
      s.Sid == "Receive" ? endswith(r, ":shop-dev-${name}.fifo") || name == "archive" && can(regex("-dlq.fifo$|-dead-archive.fifo$", r)) :
      s.Sid == "Publish" ? endswith(r, ":shop-dev-dead.fifo") || length(try(var.manifest.functions[name].says, [])) > 0 : true
    )]]]))
    error_message = "A role has more than its function declares."
  }
}

# A capability that is added in Go is there on the next plan.
run "one_more" {
  command = plan

  variables {
    secrets = {}
    manifest = { functions = {
      archive  = { name = "archive", dead_letters = true, collections = [{ name = "events" }], trigger = { retry = 10, timeout = "30s" } }
      gateway  = { name = "gateway", front = true }
      greeter  = { name = "greeter", says = ["dev.ebb.greeter.greeted.v1"] }
      farewell = { name = "farewell" }
    } }
  }

  assert {
    condition     = join(",", keys(output.functions)) == "archive,farewell,gateway,greeter"
    error_message = "It needs to be listed nowhere else."
  }
}

run "function_that_is_not" {
  command         = plan
  expect_failures = [terraform_data.checks]

  variables {
    packages = { order = "variables.tf" }
  }
}

run "no_front" {
  command         = plan
  expect_failures = [var.manifest]

  variables {
    manifest = { functions = { archive = { name = "archive", dead_letters = true } } }
  }
}

run "authorizer" {
  command = plan

  variables {
    authorizer  = { issuer = "https://login.example.com/realms/shop", audiences = ["other", "shop"] }
    environment = { EBB_OIDC_ISSUER = "https://login.example.com/realms/shop", EBB_OIDC_AUDIENCE = "shop" }
  }

  assert {
    condition = output.guarded == toset(flatten([for f in values(var.manifest.functions) : [
      for r in try(f.routes, []) : "${r.method} ${r.path}" if r.access == "authenticated" || r.access == "roles"
    ]]))
    error_message = "The routes of the manifest that are not public, and no others, want a token of the provider."
  }
  assert {
    condition     = !contains(output.guarded, "POST /api/sessions") && !contains(output.guarded, "$default") && contains(output.guarded, "POST /api/orders")
    error_message = "Signing in is open, and placing an order is not."
  }
}

run "authorizer_of_another_issuer" {
  command         = plan
  expect_failures = [terraform_data.checks]

  variables {
    authorizer  = { issuer = "https://login.example.com/realms/shop", audiences = ["shop"] }
    environment = { EBB_OIDC_ISSUER = "https://login.example.com", EBB_OIDC_AUDIENCE = "shop" }
  }
}

run "authorizer_that_functions_do_not_know" {
  command         = plan
  expect_failures = [terraform_data.checks]

  variables {
    authorizer = { issuer = "https://login.example.com/realms/shop", audiences = ["shop"] }
  }
}
