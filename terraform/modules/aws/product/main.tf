locals {
  functions = var.manifest.functions
  front     = one([for name, f in local.functions : name if try(f.front, false)])

  # What is said by function speaks of functions that there are.
  named   = distinct(concat([for by in [var.deliveries, var.memory, var.packages, var.scale, var.secrets, var.settings] : keys(by)]...))
  unknown = setsubtract(local.named, concat(["*"], keys(local.functions)))

  # A secret under "*" is for each function that declares it.
  secrets = { for name, f in local.functions : name => merge(try(var.secrets["*"], {}), try(var.secrets[name], {})) }
  config = merge(
    { EBB_VERIFICATION_KEYS = var.verification_keys, EBB_ISSUER = var.issuer, EBB_AUDIENCE = var.audience },
    # The gateway asks functions by the API's own routes. It wants a place for the name of the function; a fragment is
    # sent to nobody.
    { EBB_FUNCTION_URL = "${aws_apigatewayv2_api.api.api_endpoint}/#{function}" },
    { EBB_CONSOLE_API = aws_apigatewayv2_api.api.api_endpoint },
    { for k in ["EBB_CORS_ORIGINS"] : k => join(",", var.origins) if length(var.origins) > 0 },
  )
}

resource "terraform_data" "checks" {
  lifecycle {
    precondition {
      condition     = length(local.unknown) == 0
      error_message = "There is no function ${join(", ", local.unknown)}; there are ${join(", ", keys(local.functions))}."
    }
    # A token that the API lets through is checked again by its function.
    precondition {
      condition = var.authorizer == null || try(
        var.environment.EBB_OIDC_ISSUER == var.authorizer.issuer && contains(var.authorizer.audiences, var.environment.EBB_OIDC_AUDIENCE), false
      )
      error_message = "No token would pass both the API and a function: environment has to have the authorizer's issuer as EBB_OIDC_ISSUER, and one of its audiences as EBB_OIDC_AUDIENCE."
    }
  }
}

module "broker" {
  source = "../broker"

  account        = var.account
  blobs          = var.blobs
  deliveries     = var.deliveries
  manifest       = local.functions
  name           = var.name
  retention_days = var.retention_days
}

module "function" {
  source   = "../function"
  for_each = local.functions

  account             = var.account
  alarm_actions       = var.alarm_actions
  architecture        = var.architecture
  blobs               = module.broker.blobs
  config              = local.config
  dead_letters        = try(each.value.dead_letters, false) ? module.broker.dead_letters : {}
  deletion_protection = var.deletion_protection
  delivery            = try(var.deliveries[each.key], var.deliveries["*"], {})
  environment         = var.environment
  log_days            = var.log_days
  manifest            = each.value
  memory              = try(var.memory[each.key], var.memory["*"], 256)
  name                = each.key
  package             = lookup(var.packages, each.key, var.package)
  prefix              = var.name
  queue               = try(module.broker.queues[each.key], null)
  scale               = try(var.scale[each.key], var.scale["*"], {})
  schedule            = var.schedule
  secrets             = local.secrets[each.key]
  secrets_key         = var.secrets_key
  settings            = try(var.settings[each.key], {})
  topics              = module.broker.topics
}

resource "aws_apigatewayv2_api" "api" {
  name          = var.name
  protocol_type = "HTTP"

  # Functions leave CORS to the gateway; here the API does it for them.
  dynamic "cors_configuration" {
    for_each = length(var.origins) > 0 ? [var.origins] : []
    content {
      allow_origins  = cors_configuration.value
      allow_methods  = ["GET", "POST", "PUT", "PATCH", "DELETE"]
      allow_headers  = ["authorization", "content-type", "idempotency-key", "if-match", "if-none-match"]
      expose_headers = ["etag", "location", "retry-after"]
      max_age        = 600
    }
  }
}

module "api" {
  source = "../api"

  account       = var.account
  alarm_actions = var.alarm_actions
  authorizer    = var.authorizer
  api           = { id = aws_apigatewayv2_api.api.id, name = aws_apigatewayv2_api.api.name }
  functions     = module.function
  log_days      = var.log_days
  manifest      = local.functions
  throttling    = var.throttling
}
