resource "aws_lambda_function" "function" {
  function_name                  = local.full
  description                    = "The function ${var.name} of ${var.prefix}."
  role                           = aws_iam_role.function.arn
  runtime                        = "provided.al2023"
  handler                        = "bootstrap"
  architectures                  = [var.architecture]
  filename                       = var.package
  source_code_hash               = filebase64sha256(var.package)
  memory_size                    = var.memory
  timeout                        = local.timeout
  reserved_concurrent_executions = coalesce(var.scale.reserved, -1)

  environment {
    variables = local.plain
  }

  lifecycle {
    precondition {
      condition     = try(var.manifest.name, null) == var.name
      error_message = "${var.name} was given the manifest of ${try(var.manifest.name, "nobody")}."
    }
    precondition {
      condition     = length(local.unknown_settings) == 0
      error_message = "${var.name} has no setting ${join(", ", local.unknown_settings)}; it has ${length(local.declared) > 0 ? join(", ", keys(local.declared)) : "none"}."
    }
    precondition {
      condition     = length(local.secret_settings) == 0
      error_message = "${join(", ", local.secret_settings)} of ${var.name} is secret: name the parameter that has it, in secrets."
    }
    precondition {
      condition     = length(local.missing_settings) == 0
      error_message = "${var.name} needs ${join(", ", local.missing_settings)}."
    }
    precondition {
      condition     = !local.hears || var.queue != null
      error_message = "${var.name} consumes events and has no queue."
    }
    precondition {
      condition     = !local.sink || length(var.dead_letters) > 0
      error_message = "${var.name} takes dead letters and has no queue of them."
    }
    # Lambda counts the names and values of all variables.
    precondition {
      condition     = sum(concat([0], [for k, v in local.plain : length(k) + length(v)])) <= 4096
      error_message = "The environment of ${var.name} is larger than 4 KB, which is the most that Lambda takes."
    }
  }

  depends_on = [aws_cloudwatch_log_group.function, aws_iam_role_policy.function]
}

resource "aws_cloudwatch_log_group" "function" {
  name              = "/aws/lambda/${local.full}"
  retention_in_days = var.log_days
}

resource "aws_iam_role" "function" {
  name = "${local.full}-${var.account.region}"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "lambda.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "aws:SourceAccount" = var.account.id } }
    }]
  })
}

resource "aws_iam_role_policy" "function" {
  name   = "declared"
  role   = aws_iam_role.function.id
  policy = jsonencode({ Version = "2012-10-17", Statement = local.statements })
}

# Its documents: see docs/adr/20261130-dynamodb-layout.md. Indexes are rows of the same table, so that there are none
# here, and a new one is made by the function. It is encrypted with DynamoDB's own key, which costs nothing.
resource "aws_dynamodb_table" "function" {
  count = local.keeps ? 1 : 0

  name                        = local.full
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "p"
  range_key                   = "s"
  deletion_protection_enabled = var.deletion_protection

  attribute {
    name = "p"
    type = "S"
  }
  attribute {
    name = "s"
    type = "S"
  }
  ttl {
    attribute_name = "ttl"
    enabled        = true
  }
  point_in_time_recovery {
    enabled = true
  }
}

# What it consumes. The response names the messages that failed.
resource "aws_lambda_event_source_mapping" "queue" {
  for_each = local.sources

  function_name           = aws_lambda_function.function.arn
  event_source_arn        = each.value
  batch_size              = each.key == "events" ? var.queue.batch : 10
  function_response_types = ["ReportBatchItemFailures"]

  dynamic "scaling_config" {
    for_each = var.scale.events == null ? [] : [var.scale.events]
    content {
      maximum_concurrency = scaling_config.value
    }
  }

  depends_on = [aws_iam_role_policy.function, aws_dynamodb_table.function]
}

# When it ticks.
resource "aws_scheduler_schedule" "tick" {
  count = local.ticks ? 1 : 0

  name                = local.full
  schedule_expression = var.schedule

  flexible_time_window {
    mode = "OFF"
  }
  target {
    arn      = aws_lambda_function.function.arn
    role_arn = aws_iam_role.tick[0].arn
    input    = jsonencode({ ebb = "tick" })

    # The next tick does the work of one that failed.
    retry_policy {
      maximum_event_age_in_seconds = 60
      maximum_retry_attempts       = 0
    }
  }

  depends_on = [aws_iam_role_policy.tick]
}

resource "aws_iam_role" "tick" {
  count = local.ticks ? 1 : 0

  name = "${local.full}-tick-${var.account.region}"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "scheduler.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "aws:SourceAccount" = var.account.id } }
    }]
  })
}

resource "aws_iam_role_policy" "tick" {
  count = local.ticks ? 1 : 0

  name = "invoke"
  role = aws_iam_role.tick[0].id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "lambda:InvokeFunction", Resource = local.lambda }]
  })
}
