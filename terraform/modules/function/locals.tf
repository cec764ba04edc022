locals {
  # Where Knative's proxy in front of the container listens.
  proxy_ports = concat([var.h2c ? 8013 : 8012], var.internal_tls ? [8112] : [])

  # What a mesh needs: labels and annotations of the pod, the ports on which its proxies meet, which are those that a
  # policy sees, where probes come from, and its control plane.
  mesh = {
    none = { labels = {}, annotations = {}, ports = [], probes = [], control = {} }
    istio-ambient = {
      labels = { "istio.io/dataplane-mode" = "ambient" }, annotations = {}, ports = [15008], probes = ["169.254.7.127/32"], control = {}
    }
    linkerd = {
      labels = {}, annotations = { "linkerd.io/inject" = "enabled" }, ports = [4143], probes = [], control = { linkerd = [8080, 8086, 8090] }
    }
  }[var.mesh]

  routes = try(var.manifest.routes, [])
  says   = try(var.manifest.says, [])
  trigger = can(var.manifest.trigger.retry) ? merge(
    var.manifest.trigger, { for k in ["retry", "backoff", "delay", "timeout"] : k => var.delivery[k] if var.delivery[k] != null }
  ) : null
  stateful = length(try(var.manifest.collections, [])) > 0
  front    = try(var.manifest.front, false)
  client   = contains(keys(local.declared), "EBB_CONSOLE_API") # of the gateway

  labels = {
    "app.kubernetes.io/name"       = var.name
    "app.kubernetes.io/part-of"    = "ebb"
    "app.kubernetes.io/managed-by" = "terraform"
  }

  postgres = var.store == null ? false : can(regex("^postgres", var.store.url))
  store_port = (
    var.store == null ? null :
    local.postgres ? tonumber(try(coalesce(regex("^[a-z]+://(?:[^@/]*@)?(?:\\[[^]]+\\]|[^:/?]+):([0-9]+)", var.store.url)...), "5432")) :
    startswith(var.store.url, "firestore:") ? 443 : null
  )
}

# Its environment. What comes from the platform's ConfigMap and from the Secret is named, never copied.
locals {
  declared = { for s in try(var.manifest.settings, []) : s.variable => s }
  secrets  = { for k, s in local.declared : k => s if try(s.secret, false) && !contains(keys(local.mounted), k) }
  # Keys that rotate are files of a mounted Secret. The private ones are mounted where they are declared, into users.
  mounted = var.signing_keys == null ? {} : {
    for k, file in { EBB_VERIFICATION_KEYS = "verification.json", EBB_SIGNING_KEYS = "signing.json" } : k => file
    if contains(keys(local.declared), k) || k == "EBB_VERIFICATION_KEYS" && (length(local.routes) > 0 || local.front)
  }
  computed = merge(
    { FUNCTION = var.name },
    { for k, v in { EBB_STORE = try(var.store.url, null) } : k => v if local.stateful },
    { for k in ["EBB_FUNCTION_URL"] : k => "http://{function}.${var.namespace}.svc.cluster.local" if local.front },
    { for k in ["EBB_CONSOLE_API"] : k => "http://gateway.${var.namespace}.svc.cluster.local" if local.client },
    { for k, v in {
      EBB_SENDER_AUDIENCE = try(var.sender_identity.audience, null)
      EBB_SENDERS         = try(join(",", var.sender_identity.senders), null)
    } : k => v if v != null && local.trigger != null },
    { for k in ["EBB_DELIVERY"] : k => local.tuning if local.trigger != null && local.tuning != "" },
    { for k, file in local.mounted : k => "file:/etc/ebb/keys/${file}" },
    { for k in ["EBB_MANIFEST_HASH"] : k => var.manifest.hash if can(var.manifest.hash) },
  )
  shared = [for k in var.config.keys : k if length(local.routes) > 0 || local.front || contains(keys(local.declared), k)]
  plain  = merge(var.environment, var.settings, local.computed)

  env = concat(
    [for k, v in local.plain : { name = k, value = v }],
    [for k in sort(local.shared) : {
      name      = k
      valueFrom = { configMapKeyRef = { name = var.config.name, key = k } }
    } if !contains(keys(local.plain), k)],
    [for k, s in local.secrets : {
      name      = k
      valueFrom = { secretKeyRef = { name = var.secret, key = k, optional = !try(s.required, false) } }
    } if var.secret != null],
    [for k in ["EBB_METRICS_TOKEN"] : {
      name      = k
      valueFrom = { secretKeyRef = { name = var.metrics_secret, key = k, optional = false } }
    } if var.metrics_secret != null],
    [for k in ["PGPASSWORD"] : {
      name      = k
      valueFrom = { secretKeyRef = { name = var.secret, key = k, optional = false } }
    } if local.postgres && var.secret != null],
  )

  # What the function itself has to know of its delivery, in the form that it reads.
  tuning = join(",", [for k in ["timeout", "batch", "concurrency"] : "${k}=${var.delivery[k]}" if var.delivery[k] != null])

  unknown_settings = setsubtract(keys(var.settings), keys(local.declared))
  secret_settings  = setintersection(keys(var.settings), keys(local.secrets))
  missing_settings = [
    for k, s in local.declared : k
    if try(s.required, false) && !try(s.secret, false) && !contains(concat(keys(local.plain), local.shared), k)
  ]
  needs_secret = concat([for k, s in local.secrets : k if try(s.required, false)], local.postgres ? ["PGPASSWORD"] : [])
}

# Go writes 1m30s, Knative reads PT90S. Knative's reader knows tenths of a second and drops what is finer, so a delay
# of 50 ms would be none at all: round up.
locals {
  per_tenth = { h = 36000, m = 600, s = 10, ms = 1 / 100, "µs" = 1 / 100000, us = 1 / 100000, ns = 1 / 100000000 }
  tenths = local.trigger == null ? {} : {
    for k in ["delay", "timeout"] : k => ceil(sum([
      for part in regexall("([0-9.]+)(h|ms|m|s|µs|us|ns)", local.trigger[k]) : tonumber(part[0]) * local.per_tenth[part[1]]
    ]))
  }
  iso = { for k, t in local.tenths : k => "PT${t / 10}S" }
}
