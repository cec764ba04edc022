# The example of the README. The provider is mocked, but has to be there: see terraform/README.md.
mock_provider "aws" {}

variables {
  name    = "orders"
  prefix  = "shop-dev"
  account = { id = "123456789012", region = "eu-central-1" }
  package = "variables.tf"
  manifest = {
    name        = "orders"
    routes      = [{ method = "GET", path = "/api/orders/{id}" }]
    says        = ["dev.ebb.orders.placed.v1"]
    collections = [{ name = "orders" }]
    settings    = [{ variable = "EBB_PERSONAL_KEYS", secret = true }]
    trigger     = { retry = 10, timeout = "30s" }
    hash        = "0123456789abcdef"
  }
  queue   = { arn = "arn:aws:sqs:eu-central-1:123456789012:shop-dev-orders.fifo", batch = 10, timeout = 31 }
  topics  = { events = "arn:aws:sns:eu-central-1:123456789012:shop-dev.fifo", dead = "arn:aws:sns:eu-central-1:123456789012:shop-dev-dead.fifo" }
  config  = { EBB_VERIFICATION_KEYS = "{}", EBB_FUNCTION_URL = "https://api.example.com/#{function}" }
  secrets = { EBB_PERSONAL_KEYS = "arn:aws:ssm:eu-central-1:123456789012:parameter/shop-dev/EBB_PERSONAL_KEYS" }
}

run "may_do_what_it_declares" {
  command = plan

  assert {
    condition     = join(",", output.statements[*].Sid) == "Log,Documents,Publish,Receive,Secrets"
    error_message = "Its role has one statement for each thing that it declares."
  }
  assert {
    condition     = alltrue([for s in output.statements : length([for r in s.Resource : r if r == "*"]) == 0])
    error_message = "No statement is about everything."
  }
  assert {
    condition     = join(",", output.statements[1].Resource) == "arn:aws:dynamodb:eu-central-1:123456789012:table/shop-dev-orders" && !contains(output.statements[1].Action, "dynamodb:Scan")
    error_message = "It has its own table only, and scans nothing."
  }
  assert {
    condition     = length(aws_dynamodb_table.function) == 1 && aws_dynamodb_table.function[0].ttl[0].attribute_name == "ttl"
    error_message = "Its table has the layout of the driver."
  }
  assert {
    condition     = aws_lambda_event_source_mapping.queue["events"].function_response_types == toset(["ReportBatchItemFailures"])
    error_message = "A batch is taken message by message."
  }
  assert {
    condition     = join(",", keys(aws_cloudwatch_metric_alarm.function)) == "dead,errors,events-wait,throttles"
    error_message = "An alarm tells of what fails, of what waits, and of what SQS has moved."
  }
  assert {
    condition     = aws_lambda_function.function.runtime == "provided.al2023" && aws_lambda_function.function.timeout == 31
    error_message = "An invocation may take as long as its handler."
  }
}

run "environment" {
  command = plan

  assert {
    condition = aws_lambda_function.function.environment[0].variables == tomap({
      FUNCTION              = "orders"
      EBB_STORE             = "dynamodb://eu-central-1/shop-dev-orders"
      EBB_BROKER            = "sns:arn:aws:sns:eu-central-1:123456789012:shop-dev.fifo"
      EBB_DEAD_LETTERS      = "sns:arn:aws:sns:eu-central-1:123456789012:shop-dev-dead.fifo"
      EBB_MANIFEST_HASH     = "0123456789abcdef"
      EBB_PERSONAL_KEYS     = "arn:aws:ssm:eu-central-1:123456789012:parameter/shop-dev/EBB_PERSONAL_KEYS"
      EBB_VERIFICATION_KEYS = "{}"
      EBB_FUNCTION_URL      = "https://api.example.com/#{function}"
    })
    error_message = "It knows its store, where its events go, and where its secrets are."
  }
}

# A function that declares nothing may log.
run "least" {
  command = plan

  variables {
    name     = "gateway"
    manifest = { name = "gateway", front = true }
    secrets  = {}
    queue    = null
  }

  assert {
    condition     = join(",", output.statements[*].Sid) == "Log" && length(aws_dynamodb_table.function) == 0 && length(aws_lambda_event_source_mapping.queue) == 0
    error_message = "It may do nothing else."
  }
}

run "one_that_ticks_and_takes_dead_letters" {
  command = plan

  variables {
    name         = "archive"
    manifest     = { name = "archive", ticks = true, dead_letters = true, trigger = { retry = 1, timeout = "30s" } }
    secrets      = {}
    dead_letters = { sink = "arn:aws:sqs:eu-central-1:123456789012:shop-dev-dead-archive.fifo" }
    blobs        = "shop-dev-blobs"
  }

  assert {
    condition     = join(",", keys(aws_lambda_event_source_mapping.queue)) == "dead-sink,events"
    error_message = "It reads its queue and that of the dead letters."
  }
  assert {
    condition     = alltrue([for k in ["dead-letters", "dead-sink-wait"] : aws_cloudwatch_metric_alarm.function[k].dimensions.QueueName == "shop-dev-dead-archive.fifo"])
    error_message = "An alarm tells of an event that has failed for good, and of one that nobody stores."
  }
  assert {
    condition     = jsondecode(aws_scheduler_schedule.tick[0].target[0].input).ebb == "tick"
    error_message = "The Scheduler wakes it."
  }
  assert {
    condition     = contains(output.statements[*].Sid, "LargeEvents") && aws_lambda_function.function.environment[0].variables.EBB_BROKER == "sns:arn:aws:sns:eu-central-1:123456789012:shop-dev.fifo?blobs=s3://shop-dev-blobs"
    error_message = "It reads the data of large events."
  }
  assert {
    condition     = alltrue([for s in output.statements : contains(s.Action, "s3:ListBucket") && contains(s.Resource, "arn:aws:s3:::shop-dev-blobs") if s.Sid == "LargeEvents"])
    error_message = "It can tell data that is gone from data that it may not read."
  }
}

run "value_for_a_secret" {
  command         = plan
  expect_failures = [var.secrets]

  variables {
    secrets = { EBB_PERSONAL_KEYS = "hunter2" }
  }
}

run "secret_in_settings" {
  command         = plan
  expect_failures = [aws_lambda_function.function]

  variables {
    settings = { EBB_PERSONAL_KEYS = "hunter2" }
  }
}

run "unknown_setting" {
  command         = plan
  expect_failures = [aws_lambda_function.function]

  variables {
    settings = { EBB_PERSONAL_KEY = "x" }
  }
}

run "missing_secret" {
  command         = plan
  expect_failures = [aws_lambda_function.function]

  variables {
    manifest = { name = "orders", settings = [{ variable = "EBB_SIGNING_KEYS", secret = true, required = true }] }
  }
}

run "no_queue" {
  command         = plan
  expect_failures = [aws_lambda_function.function]

  variables {
    queue = null
  }
}

run "large_environment" {
  command         = plan
  expect_failures = [aws_lambda_function.function]

  variables {
    environment = { X = join("", [for i in range(512) : "12345678"]) }
  }
}

run "manifest_of_another" {
  command         = plan
  expect_failures = [aws_lambda_function.function]

  variables {
    name = "payments"
  }
}
