# What somebody should look at: a function that fails or is held back, events that wait, and dead letters.
locals {
  queues = { for k, arn in local.sources : k => reverse(split(":", arn))[0] }
  alarms = merge(
    { for metric in ["Errors", "Throttles"] : lower(metric) => {
      namespace  = "AWS/Lambda", metric = metric, statistic = "Sum", threshold = 0
      dimensions = { FunctionName = local.full }
      says       = "${local.full}: invocations ${metric == "Errors" ? "failed" : "were refused for want of concurrency"}."
    } },
    # A key whose event fails waits for its attempts; so do events behind it. A message that fails is no error of an
    # invocation, so that this is the only sign; a dead letter that waits is lost in the end.
    { for k, queue in local.queues : "${k}-wait" => {
      namespace  = "AWS/SQS", metric = "ApproximateAgeOfOldestMessage", statistic = "Maximum", threshold = 900
      dimensions = { QueueName = queue }
      says       = "${queue}: a message waits for more than 15 minutes."
    } if contains(["events", "dead-sink"], k) },
    { for k, queue in local.queues : "dead-letters" => {
      namespace  = "AWS/SQS", metric = "NumberOfMessagesSent", statistic = "Sum", threshold = 0
      dimensions = { QueueName = queue }
      says       = "${queue}: an event has failed for good; look at it with ebb dlq."
    } if k == "dead-sink" },
    { for k, queue in local.queues : "dead" => {
      namespace  = "AWS/SQS", metric = "ApproximateNumberOfMessagesVisible", statistic = "Maximum", threshold = 0
      dimensions = { QueueName = replace(queue, "/\\.fifo$/", "-dlq.fifo") }
      says       = "${queue}: SQS has moved a message to its dead-letter queue."
    } if k == "events" },
  )
}

resource "aws_cloudwatch_metric_alarm" "function" {
  for_each = local.alarms

  alarm_name          = "${local.full}-${each.key}"
  alarm_description   = each.value.says
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  period              = 60
  evaluation_periods  = 5
  datapoints_to_alarm = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_actions
  ok_actions          = var.alarm_actions
}
