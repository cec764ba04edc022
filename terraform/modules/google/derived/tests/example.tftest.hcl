# The example of the README. There is no provider here.
variables {
  name  = "shop-dev"
  place = { project = "example", number = "123456789012", region = "europe-west1" }
  manifest = {
    archive = { name = "archive", dead_letters = true, collections = [{ name = "events" }], trigger = { retry = 10, timeout = "30s" } }
    orders = {
      name     = "orders", hash = "0123456789abcdef", says = ["dev.ebb.orders.placed.v1"], collections = [{ name = "orders" }], routes = [{ method = "GET", path = "/api/orders/{id}" }]
      settings = [{ variable = "EBB_PERSONAL_KEYS", secret = true }, { variable = "EBB_ORDERS_STEP_DEADLINE" }]
      trigger = { retry = 200, timeout = "1m30s", filters = [
        { any = [{ exact = { type = "dev.ebb.inventory.reserved.v1" } }, { exact = { type = "dev.ebb.clock.swept.v1" } }] },
        { any = [{ exact = { ebbreplayto = "orders" } }, { not = { cesql = "EXISTS ebbreplayto" } }] },
      ] }
    }
    clock   = { name = "clock", ticks = true, says = ["dev.ebb.clock.swept.v1"] }
    gateway = { name = "gateway", front = true }
  }
  config  = { EBB_VERIFICATION_KEYS = "{}" }
  secrets = { "*" = { EBB_PERSONAL_KEYS = "shop-dev-personal-keys" } }
}

run "names" {
  command = plan

  assert {
    condition     = output.topics == { events = "shop-dev", dead = "shop-dev-dead" }
    error_message = "The names of topics are those of docs/brokers.md."
  }
  assert {
    condition     = join(",", keys(output.subscriptions)) == "shop-dev-archive,shop-dev-dead-archive,shop-dev-orders"
    error_message = "Each trigger has a subscription, the dead letters have one, and nothing else has."
  }
  assert {
    condition     = output.services.orders.name == "shop-dev-orders" && output.urls.orders == "https://shop-dev-orders-123456789012.europe-west1.run.app"
    error_message = "The address of a service is known before it is made."
  }
}

run "what_is_pushed" {
  command = plan

  assert {
    condition     = output.subscriptions["shop-dev-orders"].filter == "(attributes.type = \"dev.ebb.inventory.reserved.v1\" OR attributes.type = \"dev.ebb.clock.swept.v1\") AND (NOT attributes:ebbreplayto OR attributes.ebbreplayto = \"orders\")"
    error_message = "A function is sent the types that its trigger names, and what is replayed to it."
  }
  assert {
    condition     = output.subscriptions["shop-dev-archive"].filter == ""
    error_message = "A trigger without filters is sent everything."
  }
  assert {
    condition     = output.subscriptions["shop-dev-orders"].attempts == 100 && output.subscriptions["shop-dev-archive"].attempts == 11
    error_message = "The attempts are those of the trigger, as far as Pub/Sub knows them."
  }
  assert {
    condition     = output.subscriptions["shop-dev-orders"].seconds == 95 && output.services.orders.timeout == 95
    error_message = "A push is answered after the handler's time, and not before."
  }
  assert {
    condition     = output.subscriptions["shop-dev-orders"].dead == "projects/example/topics/shop-dev-dead" && output.subscriptions["shop-dev-dead-archive"].dead == null && !output.subscriptions["shop-dev-dead-archive"].ordered
    error_message = "What fails for good goes to the topic of dead letters, and those have none behind them, and hold up no other."
  }
  assert {
    condition     = output.subscriptions["shop-dev-orders"].endpoint == "https://shop-dev-orders-123456789012.europe-west1.run.app/pubsub" && output.ticks == { clock = "https://shop-dev-clock-123456789012.europe-west1.run.app" }
    error_message = "Each is pushed to its own function."
  }
}

# A filter that Pub/Sub cannot decide, or is too long for it, widens the subscription's, and never narrows it.
run "other_filters" {
  command = plan

  variables {
    secrets = {}
    manifest = {
      mixed  = { name = "mixed", trigger = { retry = 1, timeout = "1s", filters = [{ any = [{ exact = { type = "a" } }, { prefix = { type = "b" } }] }] } }
      source = { name = "source", trigger = { retry = 1, timeout = "1s", filters = [{ any = [{ exact = { type = "a", source = "/x" } }] }] } }
      cesql  = { name = "cesql", trigger = { retry = 1, timeout = "1s", filters = [{ cesql = "type = 'a'" }] } }
      many = { name = "many", trigger = { retry = 1, timeout = "1s", filters = [
        { any = [for i in range(20) : { exact = { type = "dev.ebb.some.event-${i}.v1" } }] },
        { any = [{ exact = { ebbreplayto = "many" } }, { not = { cesql = "EXISTS ebbreplayto" } }] },
      ] } }
    }
  }

  assert {
    condition     = output.subscriptions["shop-dev-mixed"].filter == "" && output.subscriptions["shop-dev-cesql"].filter == ""
    error_message = "What Pub/Sub cannot decide is sent."
  }
  assert {
    condition     = output.subscriptions["shop-dev-source"].filter == "(attributes.type = \"a\")"
    error_message = "The type of a choice is enough to let it through."
  }
  assert {
    condition     = output.subscriptions["shop-dev-many"].filter == "(NOT attributes:ebbreplayto OR attributes.ebbreplayto = \"many\")"
    error_message = "A filter has 256 bytes at most."
  }
  assert {
    condition     = alltrue([for s in output.subscriptions : s.attempts == 5 && s.dead == null])
    error_message = "Pub/Sub knows no fewer than five attempts, and without a function that stores dead letters there is no topic of them."
  }
}

run "may_do_what_it_declares" {
  command = plan

  assert {
    condition     = join(",", keys(output.grants)) == "archive/documents,clock/publish,orders/documents,orders/publish,orders/secret/shop-dev-personal-keys"
    error_message = "An account has one grant for each thing that its function declares."
  }
  assert {
    condition     = output.grants["orders/documents"] == { function = "orders", role = "roles/datastore.user", on = "database", of = "shop-dev-orders" }
    error_message = "It has its own database only."
  }
  assert {
    condition     = alltrue([for g in output.grants : contains(["topic", "database", "secret"], g.on)])
    error_message = "No grant is about the whole project."
  }
}

run "environment" {
  command = plan

  assert {
    condition = tomap(output.services.orders.env) == tomap({
      FUNCTION              = "orders"
      EBB_STORE             = "firestore://example/shop-dev-orders"
      EBB_MANIFEST_HASH     = "0123456789abcdef"
      EBB_SENDER_AUDIENCE   = "https://shop-dev-orders-123456789012.europe-west1.run.app"
      EBB_SENDER_ISSUER     = "https://accounts.google.com"
      EBB_VERIFICATION_KEYS = "{}"
      K_SINK                = "pubsub:projects/example/topics/shop-dev"
    })
    error_message = "It knows its store, where its events go, and who pushes."
  }
  assert {
    condition     = output.services.orders.secrets == { EBB_PERSONAL_KEYS = "shop-dev-personal-keys" } && length(output.services.clock.secrets) == 0
    error_message = "It has the secrets that it declares, by reference."
  }
  assert {
    condition     = output.services.gateway.env.EBB_FUNCTION_URL == "https://shop-dev-{function}-123456789012.europe-west1.run.app" && output.services.gateway.public && !output.services.orders.public
    error_message = "The gateway is public, and finds the others."
  }
  assert {
    condition     = !contains(keys(output.services.gateway.env), "EBB_SENDER_AUDIENCE") && contains(keys(output.services.clock.env), "EBB_SENDER_AUDIENCE")
    error_message = "One that takes events or ticks checks who pushes."
  }
}

# The whole shop, as it is in Go.
run "the_shop" {
  command = plan

  variables {
    manifest = jsondecode(file("../../../manifest.json")).functions
    secrets  = { "*" = { EBB_PERSONAL_KEYS = "shop-dev-personal-keys" }, users = { EBB_SIGNING_KEYS = "shop-dev-signing-keys", EBB_ADMIN_PASSWORD = "shop-dev-admin-password" } }
  }

  assert {
    condition     = toset(keys(output.services)) == toset(keys(var.manifest))
    error_message = "Each function of the manifest is a service, and nothing else is."
  }
  assert {
    condition     = toset([for s in output.subscriptions : s.function]) == toset([for name, f in var.manifest : name if can(f.trigger)])
    error_message = "Each trigger has a subscription."
  }
  # What a function consumes is let through by its filter.
  assert {
    condition = alltrue(flatten([for k, s in output.subscriptions : [
      for type in try(var.manifest[s.function].hears, []) : !strcontains(s.filter, "attributes.type") || strcontains(s.filter, "\"${type}\"")
    ]]))
    error_message = "Nothing that is consumed is left out."
  }
  assert {
    condition     = alltrue([for s in output.subscriptions : length(s.filter) <= 256])
    error_message = "No filter is longer than Pub/Sub takes."
  }
  assert {
    condition     = alltrue([for g in output.grants : g.on != "topic" || length(try(var.manifest[g.function].says, [])) > 0])
    error_message = "Only those that emit publish."
  }
}

run "value_for_a_secret" {
  command         = plan
  expect_failures = [var.secrets]

  variables {
    secrets = { orders = { EBB_PERSONAL_KEYS = "hunter2 and more" } }
  }
}

run "secret_in_settings" {
  command         = plan
  expect_failures = [output.services]

  variables {
    settings = { orders = { EBB_PERSONAL_KEYS = "hunter2" } }
  }
}

run "unknown_setting" {
  command         = plan
  expect_failures = [output.services]

  variables {
    settings = { orders = { EBB_PERSONAL_KEY = "x" } }
  }
}

run "missing_secret" {
  command         = plan
  expect_failures = [output.services]

  variables {
    manifest = { orders = { name = "orders", settings = [{ variable = "EBB_SIGNING_KEYS", secret = true, required = true }] } }
  }
}

run "function_that_is_not" {
  command         = plan
  expect_failures = [output.services]

  variables {
    settings = { order = {} }
  }
}

run "name_that_is_too_long" {
  command         = plan
  expect_failures = [output.services]

  variables {
    secrets  = {}
    manifest = { a-function-with-a-long-name = { name = "a-function-with-a-long-name" } }
  }
}

run "what_alarms_tell" {
  command = plan

  assert {
    condition     = join(",", keys(output.alarms)) == "shop-dev-archive-5xx,shop-dev-archive-dead,shop-dev-archive-wait,shop-dev-clock-5xx,shop-dev-dead-archive-wait,shop-dev-gateway-5xx,shop-dev-orders-5xx,shop-dev-orders-dead,shop-dev-orders-wait"
    error_message = "Each service has an alarm of failures, each subscription one of waiting, and one of dead letters if it has them."
  }
  assert {
    condition     = strcontains(output.alarms["shop-dev-orders-wait"].filter, "subscription_id = \"shop-dev-orders\"") && output.alarms["shop-dev-orders-wait"].threshold == 900
    error_message = "An alarm is of its own subscription."
  }
}
