# A request goes to the function that declares its operation, which checks the token by itself. All else goes to the
# gateway: composed answers, calls by Connect, the documents, and requests that nothing serves.
locals {
  front = one([for name, f in var.manifest : name if try(f.front, false)])
  declared = merge([for name, f in var.manifest : {
    for r in try(f.routes, []) : "${r.method} ${r.path}" => name
  }]...)
  routes = merge(local.declared, { for k in ["$default"] : k => local.front if local.front != null })
  served = toset(values(local.routes))

  # What no anonymous caller may use. What says nothing of it counts as that, and what the gateway answers does not.
  closed = toset(flatten([for name, f in var.manifest : [
    for r in try(f.routes, []) : "${r.method} ${r.path}" if try(r.access, "") != "public"
  ]]))
  guarded = var.authorizer == null ? toset([]) : local.closed
}

resource "aws_apigatewayv2_authorizer" "oidc" {
  for_each = { for k in ["oidc"] : k => var.authorizer if var.authorizer != null }

  api_id           = var.api.id
  name             = each.key
  authorizer_type  = "JWT"
  identity_sources = ["$request.header.Authorization"]

  jwt_configuration {
    issuer   = each.value.issuer
    audience = each.value.audiences
  }
}

resource "aws_apigatewayv2_integration" "function" {
  for_each = local.served

  api_id                 = var.api.id
  integration_type       = "AWS_PROXY"
  integration_uri        = var.functions[each.key].invoke_arn
  payload_format_version = "2.0"
}

resource "aws_apigatewayv2_route" "route" {
  for_each = local.routes

  api_id    = var.api.id
  route_key = each.key
  target    = "integrations/${aws_apigatewayv2_integration.function[each.value].id}"

  authorization_type = contains(local.guarded, each.key) ? "JWT" : "NONE"
  authorizer_id      = contains(local.guarded, each.key) ? aws_apigatewayv2_authorizer.oidc["oidc"].id : null

  lifecycle {
    precondition {
      condition     = length(local.routes) <= 300
      error_message = "An HTTP API has 300 routes at most, unless its quota is raised; here there are ${length(local.routes)}."
    }
  }
}

resource "aws_lambda_permission" "api" {
  for_each = local.served

  statement_id  = "api"
  action        = "lambda:InvokeFunction"
  function_name = var.functions[each.key].function_name
  principal     = "apigateway.amazonaws.com"
  source_arn    = "arn:${var.account.partition}:execute-api:${var.account.region}:${var.account.id}:${var.api.id}/*"
}

resource "aws_apigatewayv2_stage" "default" {
  api_id      = var.api.id
  name        = "$default"
  auto_deploy = true

  default_route_settings {
    throttling_rate_limit  = var.throttling.rate
    throttling_burst_limit = var.throttling.burst
  }
  # No path and no query, which may have data of persons.
  access_log_settings {
    destination_arn = aws_cloudwatch_log_group.api.arn
    format = jsonencode({
      requestId = "$context.requestId", route = "$context.routeKey", status = "$context.status", latency = "$context.responseLatency"
      error     = "$context.error.message", integration = "$context.integrationErrorMessage"
    })
  }

  depends_on = [aws_apigatewayv2_route.route]
}

resource "aws_cloudwatch_log_group" "api" {
  name              = "/aws/apigateway/${var.api.name}"
  retention_in_days = var.log_days
}

resource "aws_cloudwatch_metric_alarm" "errors" {
  alarm_name          = "${var.api.name}-5xx"
  alarm_description   = "${var.api.name}: requests were answered with 5xx."
  namespace           = "AWS/ApiGateway"
  metric_name         = "5xx"
  dimensions          = { ApiId = var.api.id }
  statistic           = "Sum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 60
  evaluation_periods  = 5
  datapoints_to_alarm = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_actions
  ok_actions          = var.alarm_actions
}
