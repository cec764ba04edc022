# What modules/google/derived says, as resources. It decides nothing by itself.
module "derived" {
  source = "../derived"

  config = merge(
    { EBB_VERIFICATION_KEYS = var.verification_keys, EBB_ISSUER = var.issuer, EBB_AUDIENCE = var.audience },
    { for k in ["EBB_CORS_ORIGINS"] : k => join(",", var.origins) if length(var.origins) > 0 },
  )
  deliveries  = var.deliveries
  environment = var.environment
  manifest    = var.manifest.functions
  name        = var.name
  place       = var.place
  secrets     = var.secrets
  settings    = var.settings
}

module "indexes" {
  source = "../../indexes"

  manifest = var.manifest.functions
}

locals {
  services = module.derived.services
  project  = var.place.project
  agent    = "serviceAccount:service-${var.place.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
}

# An account per function, and one that pushes events and ticks.
resource "google_service_account" "function" {
  for_each = local.services

  project      = local.project
  account_id   = each.value.name
  display_name = "${each.key} of ${var.name}"
}

resource "google_service_account" "push" {
  project      = local.project
  account_id   = "${var.name}-push"
  display_name = "what pushes events and ticks of ${var.name}"
}

# A topic of events, and one of dead letters.
resource "google_pubsub_topic" "topic" {
  for_each = module.derived.topics

  project = local.project
  name    = each.value

  message_storage_policy {
    allowed_persistence_regions = [var.place.region]
  }
}

resource "google_pubsub_subscription" "trigger" {
  for_each = module.derived.subscriptions

  project                    = local.project
  name                       = each.key
  topic                      = "projects/${local.project}/topics/${each.value.topic}"
  filter                     = each.value.filter
  enable_message_ordering    = each.value.ordered
  ack_deadline_seconds       = each.value.seconds
  message_retention_duration = "2678400s" # 31 days, the most that there is

  push_config {
    push_endpoint = each.value.endpoint

    oidc_token {
      service_account_email = google_service_account.push.email
      audience              = each.value.audience
    }
  }
  expiration_policy {
    ttl = "" # never
  }
  retry_policy {
    minimum_backoff = "1s"
    maximum_backoff = "60s"
  }
  dynamic "dead_letter_policy" {
    for_each = each.value.dead == null ? [] : [each.value]
    content {
      dead_letter_topic     = dead_letter_policy.value.dead
      max_delivery_attempts = dead_letter_policy.value.attempts
    }
  }

  depends_on = [google_pubsub_topic.topic]
}

# Pub/Sub's own account moves what has failed for good.
resource "google_pubsub_topic_iam_member" "moves" {
  for_each = { for k, t in module.derived.topics : k => t if k == "dead" }

  project = local.project
  topic   = google_pubsub_topic.topic[each.key].name
  role    = "roles/pubsub.publisher"
  member  = local.agent
}

resource "google_pubsub_subscription_iam_member" "moves" {
  for_each = { for k, s in module.derived.subscriptions : k => s if s.dead != null }

  project      = local.project
  subscription = google_pubsub_subscription.trigger[each.key].name
  role         = "roles/pubsub.subscriber"
  member       = local.agent
}

# What each function may do.
resource "google_pubsub_topic_iam_member" "grant" {
  for_each = { for k, g in module.derived.grants : k => g if g.on == "topic" }

  project = local.project
  topic   = each.value.of
  role    = each.value.role
  member  = google_service_account.function[each.value.function].member

  depends_on = [google_pubsub_topic.topic]
}

resource "google_project_iam_member" "grant" {
  for_each = { for k, g in module.derived.grants : k => g if g.on == "database" }

  project = local.project
  role    = each.value.role
  member  = google_service_account.function[each.value.function].member

  condition {
    title      = "own database"
    expression = "resource.name == \"projects/${local.project}/databases/${each.value.of}\""
  }
}

resource "google_secret_manager_secret_iam_member" "grant" {
  for_each = { for k, g in module.derived.grants : k => g if g.on == "secret" }

  project   = local.project
  secret_id = each.value.of
  role      = each.value.role
  member    = google_service_account.function[each.value.function].member
}

# A database per function, with the indexes that the manifest declares.
resource "google_firestore_database" "function" {
  for_each = module.indexes.databases

  project                 = local.project
  name                    = "${var.name}-${each.key}"
  location_id             = var.place.region
  type                    = "FIRESTORE_NATIVE"
  delete_protection_state = var.deletion_protection ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"
  deletion_policy         = "DELETE"
}

resource "google_firestore_index" "function" {
  for_each = module.indexes.indexes

  project    = local.project
  database   = google_firestore_database.function[each.value.function].name
  collection = each.value.collection

  dynamic "fields" {
    for_each = each.value.paths
    content {
      field_path = fields.value
      order      = each.value.order
    }
  }
}

resource "google_firestore_field" "exempt" {
  for_each = module.indexes.exempt

  project    = local.project
  database   = google_firestore_database.function[each.value.function].name
  collection = each.value.collection
  field      = each.value.field

  index_config {}
}

# The functions. Only the gateway can be reached from outside. Requests are admitted by their tokens and events by the
# identity of the account that pushes, both by the function itself, so that Cloud Run checks no identity of its own.
resource "google_cloud_run_v2_service" "function" {
  for_each = local.services

  project              = local.project
  name                 = each.value.name
  location             = var.place.region
  ingress              = each.value.public ? "INGRESS_TRAFFIC_ALL" : "INGRESS_TRAFFIC_INTERNAL_ONLY"
  deletion_protection  = var.deletion_protection
  invoker_iam_disabled = true

  template {
    service_account                  = google_service_account.function[each.key].email
    timeout                          = "${each.value.timeout}s"
    max_instance_request_concurrency = try(var.scale[each.key].concurrency, var.scale["*"].concurrency, 80)

    scaling {
      min_instance_count = try(var.scale[each.key].min, var.scale["*"].min, 0)
      max_instance_count = try(var.scale[each.key].max, var.scale["*"].max, 10)
    }
    # Requests between functions stay inside, so that they count as internal.
    vpc_access {
      egress = "ALL_TRAFFIC"

      network_interfaces {
        network    = var.network
        subnetwork = var.subnetwork
      }
    }
    containers {
      image = lookup(var.images, each.key, var.image)

      ports {
        container_port = 8080
      }
      resources {
        limits            = { cpu = "1", memory = try(var.memory[each.key], var.memory["*"], "512Mi") }
        cpu_idle          = true
        startup_cpu_boost = true
      }
      startup_probe {
        period_seconds    = 1
        failure_threshold = 60

        http_get {
          path = "/health/readiness"
        }
      }
      dynamic "env" {
        for_each = merge(each.value.env, { for k in ["EBB_SENDERS"] : k => google_service_account.push.unique_id if each.value.pushed })
        content {
          name  = env.key
          value = env.value
        }
      }
      dynamic "env" {
        for_each = each.value.secrets
        content {
          name = env.key
          value_source {
            secret_key_ref {
              secret  = env.value
              version = "latest"
            }
          }
        }
      }
    }
  }

  depends_on = [
    google_project_iam_member.grant, google_pubsub_topic_iam_member.grant, google_secret_manager_secret_iam_member.grant,
    google_firestore_index.function,
  ]
}

# The Scheduler tells the time each minute, in the form of Knative's PingSource.
resource "google_cloud_scheduler_job" "tick" {
  for_each = module.derived.ticks

  project          = local.project
  region           = var.place.region
  name             = "${var.name}-${each.key}"
  schedule         = "* * * * *"
  attempt_deadline = "60s"

  http_target {
    http_method = "POST"
    uri         = "${each.value}/events"
    body        = base64encode("{}")
    headers = {
      "Content-Type"   = "application/json"
      "Ce-Specversion" = "1.0"
      "Ce-Type"        = "dev.knative.sources.ping"
      "Ce-Source"      = "/scheduler/${var.name}"
      "Ce-Id"          = "tick"
    }

    oidc_token {
      service_account_email = google_service_account.push.email
      audience              = each.value
    }
  }
  # The next tick does the work of one that failed.
  retry_config {
    retry_count = 0
  }

  depends_on = [google_cloud_run_v2_service.function]
}

resource "google_monitoring_alert_policy" "alarm" {
  for_each = module.derived.alarms

  project               = local.project
  display_name          = each.key
  combiner              = "OR"
  notification_channels = var.alarm_channels

  documentation {
    content = each.value.says
  }
  conditions {
    display_name = each.key

    condition_threshold {
      filter          = each.value.filter
      comparison      = "COMPARISON_GT"
      threshold_value = each.value.threshold
      duration        = "0s"

      aggregations {
        alignment_period   = "60s"
        per_series_aligner = each.value.aligner
      }
    }
  }
}
