# The example of the README. The provider is mocked, but has to be there: see terraform/README.md.
mock_provider "aws" {}

variables {
  name    = "shop-dev"
  account = { id = "123456789012", region = "eu-central-1" }
  manifest = {
    archive = { name = "archive", dead_letters = true, trigger = { retry = 10, timeout = "30s" } }
    orders = { name = "orders", trigger = { retry = 10, timeout = "30s", batch = 128, filters = [
      { any = [{ exact = { type = "dev.ebb.orders.placed.v1" } }, { exact = { type = "dev.ebb.clock.swept.v1" } }] },
      { any = [{ exact = { ebbreplayto = "orders" } }, { not = { cesql = "EXISTS ebbreplayto" } }] },
    ] } }
    gateway = { name = "gateway", front = true }
  }
}

run "names" {
  command = plan

  assert {
    condition     = aws_sns_topic.topic["events"].name == "shop-dev.fifo" && aws_sns_topic.topic["dead"].name == "shop-dev-dead.fifo"
    error_message = "The names of topics are those of docs/brokers.md."
  }
  assert {
    condition     = aws_sqs_queue.trigger["orders"].name == "shop-dev-orders.fifo" && aws_sqs_queue.dead["orders"].name == "shop-dev-orders-dlq.fifo" && aws_sqs_queue.sink[0].name == "shop-dev-dead-archive.fifo"
    error_message = "So are those of queues."
  }
  assert {
    condition     = join(",", sort(keys(aws_sqs_queue.trigger))) == "archive,orders"
    error_message = "Each trigger has a queue, and nothing else has."
  }
}

run "what_is_sent" {
  command = plan

  assert {
    condition     = jsonencode(output.policies.orders) == jsonencode({ type = ["dev.ebb.orders.placed.v1", "dev.ebb.clock.swept.v1"], ebbreplayto = ["orders", { exists = false }] })
    error_message = "A queue is sent the types that its trigger names, and what is replayed to it."
  }
  assert {
    condition     = output.policies.archive == {}
    error_message = "A trigger without filters is sent everything."
  }
  assert {
    condition     = jsondecode(aws_sqs_queue.trigger["orders"].policy).Statement[0].Condition.ArnEquals["aws:SourceArn"] == "arn:aws:sns:eu-central-1:123456789012:shop-dev.fifo"
    error_message = "Only the topic of events sends to it."
  }
  assert {
    condition     = jsondecode(aws_sqs_queue.sink[0].policy).Statement[0].Condition.ArnEquals["aws:SourceArn"] == "arn:aws:sns:eu-central-1:123456789012:shop-dev-dead.fifo"
    error_message = "Only the topic of dead letters sends to their queue."
  }
}

# A filter that SNS cannot decide widens the policy, and never narrows it.
run "other_dialects" {
  command = plan

  variables {
    manifest = {
      mixed   = { name = "mixed", trigger = { retry = 1, timeout = "1s", filters = [{ any = [{ exact = { type = "a" } }, { prefix = { type = "b" } }] }] } }
      source  = { name = "source", trigger = { retry = 1, timeout = "1s", filters = [{ any = [{ exact = { type = "a", source = "/x" } }] }] } }
      cesql   = { name = "cesql", trigger = { retry = 1, timeout = "1s", filters = [{ cesql = "type = 'a'" }] } }
      foreign = { name = "foreign", trigger = { retry = 1, timeout = "1s", filters = [{ any = [{ exact = { ebbreplayto = "orders" } }] }] } }
    }
  }

  assert {
    condition     = output.policies.mixed == {} && output.policies.cesql == {} && output.policies.foreign == {}
    error_message = "What SNS cannot decide is sent."
  }
  assert {
    condition     = jsonencode(output.policies.source) == jsonencode({ type = ["a"] })
    error_message = "The type of a choice is enough to let it through."
  }
}

run "times" {
  command = plan

  variables {
    deliveries = { "*" = { timeout = "1m30s" }, archive = { retry = 2, batch = 3 } }
  }

  assert {
    condition     = output.queues.orders.timeout == 91 && output.queues.archive.timeout == 31
    error_message = "An invocation may take a second more than its handler."
  }
  assert {
    condition     = aws_sqs_queue.trigger["orders"].visibility_timeout_seconds == 182
    error_message = "A message is hidden for longer than an invocation takes."
  }
  assert {
    condition     = output.queues.orders.batch == 10 && output.queues.archive.batch == 3
    error_message = "A batch of a FIFO queue has ten messages at most."
  }
}

run "hidden_for_as_long_as_the_function_takes" {
  command = plan

  variables {
    deliveries = { orders = { timeout = "5s" }, archive = { timeout = "3m" } }
  }

  assert {
    condition     = aws_sqs_queue.trigger["orders"].visibility_timeout_seconds == 60
    error_message = "A message is hidden for as long as the function may take for a request or a tick."
  }
  assert {
    condition     = aws_sqs_queue.dead["orders"].visibility_timeout_seconds == 362 && aws_sqs_queue.sink[0].visibility_timeout_seconds == 362
    error_message = "A dead letter is hidden for as long as the function that stores them may take."
  }
}
