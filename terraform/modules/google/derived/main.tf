# What the manifest means on Google Cloud, as data. There are no resources here, so that tests need no provider;
# modules/google/product makes of each output the resources of that name.
locals {
  functions = var.manifest
  front     = one([for name, f in local.functions : name if try(f.front, false)])
  sink      = one([for name, f in local.functions : name if try(f.dead_letters, false)])
  triggers  = { for name, f in local.functions : name => f.trigger if can(f.trigger.retry) }
  says      = toset([for name, f in local.functions : name if length(try(f.says, [])) > 0])
  ticks     = toset([for name, f in local.functions : name if try(f.ticks, false)])
  keeps     = toset([for name, f in local.functions : name if length(try(f.collections, [])) > 0])

  topics = merge({ events = var.name }, { for k in ["dead"] : k => "${var.name}-dead" if local.sink != null })
  topic  = "projects/${var.place.project}/topics"

  # Cloud Run gives a service this address before it is made.
  urls = { for name in keys(local.functions) : name => "https://${var.name}-${name}-${var.place.number}.${var.place.region}.run.app" }

  unknown = setsubtract(distinct(concat([for by in [var.deliveries, var.secrets, var.settings] : keys(by)]...)), concat(["*"], keys(local.functions)))
  long    = [for name in keys(local.functions) : name if length("${var.name}-${name}") > 30]
}

# A trigger is a subscription whose messages are pushed to its function. Its filter is as much of the trigger's as
# Pub/Sub can decide in 256 bytes: the types and for whom a replay is, or only the latter, or nothing. What comes besides
# is dropped by the function's host.
locals {
  types = { for name, t in local.triggers : name => distinct(flatten([
    for f in try(t.filters, []) : [for c in try(f.any, []) : try(c.exact.type, [])]
    if try(alltrue([for c in f.any : can(c.exact.type)]), false)
  ])) }
  replays = { for name, t in local.triggers : name => anytrue([
    for f in try(t.filters, []) : anytrue([for c in try(f.any, []) : try(c.exact.ebbreplayto, "") == name])
  ]) }
  by_type   = { for name, types in local.types : name => join(" OR ", [for t in types : "attributes.type = \"${t}\""]) }
  by_replay = { for name, on in local.replays : name => on ? "(NOT attributes:ebbreplayto OR attributes.ebbreplayto = \"${name}\")" : "" }
  whole = { for name in keys(local.triggers) : name => join(" AND ", compact([
    local.by_type[name] == "" ? "" : "(${local.by_type[name]})", local.by_replay[name],
  ])) }
  filters = { for name, f in local.whole : name => length(f) <= 256 ? f : local.by_replay[name] }

  deliveries = { for name, t in local.triggers : name => merge(
    t, { for k, v in try(var.deliveries[name], var.deliveries["*"], {}) : k => v if v != null }
  ) }
  per_second = { h = 3600, m = 60, s = 1, ms = 0.001, "µs" = 0.000001, us = 0.000001, ns = 0.000000001 }
  seconds = { for name, d in local.deliveries : name => ceil(sum([
    for part in regexall("([0-9.]+)(h|ms|m|s|µs|us|ns)", d.timeout) : tonumber(part[0]) * local.per_second[part[1]]
  ])) }

  pushes = merge(
    { for name, d in local.deliveries : name => {
      function = name
      topic    = local.topics.events
      filter   = local.filters[name]
      ordered  = true
      attempts = min(100, max(5, d.retry + 1)) # all that Pub/Sub allows
      seconds  = min(600, max(10, local.seconds[name] + 5))
    } },
    # A dead letter is tried until the function that stores it has taken it.
    { for k in ["dead-${coalesce(local.sink, "-")}"] : k => {
      function = local.sink
      topic    = "${var.name}-dead"
      filter   = ""
      ordered  = false # one that is no event would hold up its key
      attempts = null
      seconds  = 65
    } if local.sink != null },
  )
  subscriptions = { for k, p in local.pushes : "${var.name}-${k}" => merge(p, {
    dead     = p.attempts == null || local.sink == null ? null : "${local.topic}/${local.topics.dead}"
    endpoint = "${local.urls[p.function]}/pubsub"
    audience = local.urls[p.function]
  }) }
}

# Its environment. Secrets are named; Cloud Run reads them when an instance starts.
locals {
  declared = { for name, f in local.functions : name => { for s in try(f.settings, []) : s.variable => s } }
  secret   = { for name, all in local.declared : name => { for k, s in all : k => s if try(s.secret, false) } }
  secrets = { for name, f in local.functions : name => {
    for k, s in merge(try(var.secrets["*"], {}), try(var.secrets[name], {})) : k => s if contains(keys(local.secret[name]), k)
  } }
  shared = merge(
    { EBB_FUNCTION_URL = "https://${var.name}-{function}-${var.place.number}.${var.place.region}.run.app" },
    { for k in ["EBB_CONSOLE_API"] : k => local.urls[local.front] if local.front != null }, var.config,
  )
  plain = { for name, f in local.functions : name => merge(
    { for k, v in local.shared : k => v if(startswith(k, "EBB_VERIFICATION_KEYS") || k == "EBB_ISSUER" || k == "EBB_AUDIENCE") && (length(try(f.routes, [])) > 0 || name == local.front) || k == "EBB_FUNCTION_URL" && name == local.front || contains(keys(local.declared[name]), k) },
    var.environment,
    try(var.settings[name], {}),
    { FUNCTION = name },
    { for k in ["EBB_STORE"] : k => "firestore://${var.place.project}/${var.name}-${name}" if contains(local.keeps, name) },
    { for k in ["K_SINK"] : k => "pubsub:${local.topic}/${local.topics.events}" if contains(local.says, name) },
    { for k in ["EBB_MANIFEST_HASH"] : k => f.hash if can(f.hash) },
    # Who may push events, besides the network: the account of the subscriptions and of the ticks, by its number.
    { for k, v in { EBB_SENDER_ISSUER = "https://accounts.google.com", EBB_SENDER_AUDIENCE = local.urls[name] } : k => v if contains(local.pushed, name) },
  ) }
  pushed = toset(concat([for p in values(local.pushes) : p.function], tolist(local.ticks)))

  services = { for name, f in local.functions : name => {
    name    = "${var.name}-${name}"
    public  = name == local.front
    pushed  = contains(local.pushed, name)
    env     = local.plain[name]
    secrets = local.secrets[name]
    timeout = max(length(try(f.routes, [])) > 0 || name == local.front ? 90 : 10, try(local.seconds[name], 0) + 5, contains(local.ticks, name) || name == local.sink ? 65 : 0)
  } }

  unknown_settings = flatten([for name, s in var.settings : [for k in keys(s) : "${name}: ${k}" if !contains(keys(try(local.declared[name], {})), k)]])
  secret_settings  = flatten([for name, s in var.settings : [for k in keys(s) : "${name}: ${k}" if contains(keys(try(local.secret[name], {})), k)]])
  missing_settings = flatten([for name, all in local.declared : [
    for k, s in all : "${name}: ${k}" if try(s.required, false) && !contains(concat(keys(local.plain[name]), keys(local.secrets[name])), k)
  ]])
}

# What each function may do: what it declares, and nothing else.
locals {
  grants = merge(
    { for name in local.says : "${name}/publish" => { function = name, role = "roles/pubsub.publisher", on = "topic", of = local.topics.events } },
    { for name in local.keeps : "${name}/documents" => { function = name, role = "roles/datastore.user", on = "database", of = "${var.name}-${name}" } },
    merge([for name, s in local.secrets : {
      for secret in toset(values(s)) : "${name}/secret/${secret}" => { function = name, role = "roles/secretmanager.secretAccessor", on = "secret", of = secret }
    }]...),
  )
}

# What somebody should look at: requests that fail, events that wait, and events that have failed for good.
locals {
  alarms = merge(
    { for name, s in local.services : "${s.name}-5xx" => {
      filter    = "resource.type = \"cloud_run_revision\" AND resource.labels.service_name = \"${s.name}\" AND metric.type = \"run.googleapis.com/request_count\" AND metric.labels.response_code_class = \"5xx\""
      aligner   = "ALIGN_DELTA"
      threshold = 0
      says      = "${s.name}: requests or events were answered with 5xx."
    } },
    { for name in keys(local.subscriptions) : "${name}-wait" => {
      filter    = "resource.type = \"pubsub_subscription\" AND resource.labels.subscription_id = \"${name}\" AND metric.type = \"pubsub.googleapis.com/subscription/oldest_unacked_message_age\""
      aligner   = "ALIGN_MAX"
      threshold = 900
      says      = "${name}: a message waits for more than 15 minutes."
    } },
    { for name, s in local.subscriptions : "${name}-dead" => {
      filter    = "resource.type = \"pubsub_subscription\" AND resource.labels.subscription_id = \"${name}\" AND metric.type = \"pubsub.googleapis.com/subscription/dead_letter_message_count\""
      aligner   = "ALIGN_DELTA"
      threshold = 0
      says      = "${name}: an event has failed for good; look at it with ebb dlq."
    } if s.dead != null },
  )
}
