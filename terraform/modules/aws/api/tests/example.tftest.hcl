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
