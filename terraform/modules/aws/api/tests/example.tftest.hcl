# The example of the README. The provider is mocked, but has to be there: see terraform/README.md.
mock_provider "aws" {}

variables {
  account = { id = "123456789012", region = "eu-central-1" }
  api     = { id = "abc123", name = "shop-dev" }
  functions = {
    orders  = { arn = "arn:aws:lambda:eu-central-1:123456789012:function:shop-dev-orders", function_name = "shop-dev-orders", invoke_arn = "arn:aws:apigateway:eu-central-1:lambda:path/x" }
    gateway = { arn = "arn:aws:lambda:eu-central-1:123456789012:function:shop-dev-gateway", function_name = "shop-dev-gateway", invoke_arn = "arn:aws:apigateway:eu-central-1:lambda:path/y" }
  }
  manifest = {
    orders  = { name = "orders", routes = [{ method = "GET", path = "/api/orders/{id}" }] }
    gateway = { name = "gateway", front = true }
  }
}

run "routes" {
  command = plan

  assert {
    condition     = jsonencode(output.routes) == jsonencode({ "GET /api/orders/{id}" = "orders", "$default" = "gateway" })
    error_message = "An operation leads to its function, all else to the gateway."
  }
  assert {
    condition     = alltrue([for p in aws_lambda_permission.api : p.source_arn == "arn:aws:execute-api:eu-central-1:123456789012:abc123/*" && p.principal == "apigateway.amazonaws.com"])
    error_message = "Only this API invokes them."
  }
}

run "too_many_routes" {
  command         = plan
  expect_failures = [aws_apigatewayv2_route.route]

  variables {
    manifest = {
      orders  = { name = "orders", routes = [for i in range(300) : { method = "GET", path = "/api/${i}" }] }
      gateway = { name = "gateway", front = true }
    }
  }
}

run "no_authorizer" {
  command = plan

  assert {
    condition     = length(aws_apigatewayv2_authorizer.oidc) == 0 && alltrue([for r in aws_apigatewayv2_route.route : r.authorization_type == "NONE" && r.authorizer_id == null])
    error_message = "Without an authorizer each route is open, and the functions check tokens."
  }
}

run "authorizer" {
  command = apply # so that its id is known

  override_resource {
    target = aws_cloudwatch_log_group.api
    values = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:/aws/apigateway/shop-dev" }
  }

  variables {
    authorizer = { issuer = "https://login.example.com/realms/shop", audiences = ["shop"] }
    manifest = {
      users = { name = "users", routes = [
        { method = "POST", path = "/api/sessions", access = "public" },
        { method = "GET", path = "/api/users/{id}", access = "authenticated" },
        { method = "DELETE", path = "/api/users/{id}", access = "roles" },
        { method = "GET", path = "/api/users" },
      ] }
      gateway = { name = "gateway", front = true }
    }
    functions = {
      users   = { arn = "arn:aws:lambda:eu-central-1:123456789012:function:shop-dev-users", function_name = "shop-dev-users", invoke_arn = "arn:aws:apigateway:eu-central-1:lambda:path/x" }
      gateway = { arn = "arn:aws:lambda:eu-central-1:123456789012:function:shop-dev-gateway", function_name = "shop-dev-gateway", invoke_arn = "arn:aws:apigateway:eu-central-1:lambda:path/y" }
    }
  }

  assert {
    condition     = join(",", [for k, r in aws_apigatewayv2_route.route : k if r.authorization_type == "JWT"]) == "DELETE /api/users/{id},GET /api/users,GET /api/users/{id}"
    error_message = "What an anonymous caller may use, and what the gateway answers, is open; all else is not, nor what says nothing."
  }
  assert {
    condition     = alltrue([for r in aws_apigatewayv2_route.route : r.authorization_type == "JWT" ? r.authorizer_id == aws_apigatewayv2_authorizer.oidc["oidc"].id : r.authorizer_id == null])
    error_message = "A route that is not open has the authorizer."
  }
  assert {
    condition     = aws_apigatewayv2_authorizer.oidc["oidc"].jwt_configuration[0].issuer == "https://login.example.com/realms/shop" && aws_apigatewayv2_authorizer.oidc["oidc"].jwt_configuration[0].audience == toset(["shop"])
    error_message = "The provider is the one that was said."
  }
}

run "issuer_without_tls" {
  command         = plan
  expect_failures = [var.authorizer]

  variables {
    authorizer = { issuer = "http://login.example.com", audiences = ["shop"] }
  }
}

run "no_audience" {
  command         = plan
  expect_failures = [var.authorizer]

  variables {
    authorizer = { issuer = "https://login.example.com", audiences = [] }
  }
}
