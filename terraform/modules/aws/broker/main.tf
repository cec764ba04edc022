# Events travel by an SNS FIFO topic to one SQS FIFO queue for each trigger. The names are those that docs/brokers.md
# gives, since the driver infra/broker/sqs makes them too.
locals {
  triggers = { for name, f in var.manifest : name => f.trigger if can(f.trigger.retry) }
  sink     = one([for name, f in var.manifest : name if try(f.dead_letters, false)])

  arn      = "arn:${var.account.partition}"
  place    = "${var.account.region}:${var.account.id}"
  bucket   = var.blobs ? "${var.name}-blobs-${var.account.id}-${var.account.region}" : null
  queues   = { for name in keys(local.triggers) : name => "${local.arn}:sqs:${local.place}:${var.name}-${name}.fifo" }
  sink_arn = local.sink == null ? null : "${local.arn}:sqs:${local.place}:${var.name}-dead-${local.sink}.fifo"
  topics   = { for t in ["events", "dead"] : t => "${local.arn}:sns:${local.place}:${var.name}${t == "dead" ? "-dead" : ""}.fifo" }

  # What the manifest says of filters, as far as SNS can decide it: by the type, and for whom a replay is. Types come
  # only if each choice of the filter names one, so that nothing is left out that the function consumes. What SNS lets
  # through besides, such as a type of another source, the function's host drops by the whole filter.
  types = { for name, t in local.triggers : name => distinct(flatten([
    for f in try(t.filters, []) : [for c in try(f.any, []) : try(c.exact.type, [])]
    if try(alltrue([for c in f.any : can(c.exact.type)]), false)
  ])) }
  replays = { for name, t in local.triggers : name => anytrue([
    for f in try(t.filters, []) : anytrue([for c in try(f.any, []) : try(c.exact.ebbreplayto, "") == name])
  ]) }
  policies = { for name, t in local.triggers : name => merge(
    { for k in ["type"] : k => local.types[name] if length(local.types[name]) > 0 },
    { for k in ["ebbreplayto"] : k => [name, { exists = false }] if local.replays[name] },
  ) }

  # How long a handler may take, in seconds, rounded up.
  per_second = { h = 3600, m = 60, s = 1, ms = 0.001, "µs" = 0.000001, us = 0.000001, ns = 0.000000001 }
  deliveries = { for name, t in local.triggers : name => merge(
    { batch = 1 }, t, { for k, v in try(var.deliveries[name], var.deliveries["*"], {}) : k => v if v != null }
  ) }
  seconds = { for name, d in local.deliveries : name => ceil(sum([
    for part in regexall("([0-9.]+)(h|ms|m|s|µs|us|ns)", d.timeout) : tonumber(part[0]) * local.per_second[part[1]]
  ])) }
  # The sandbox ends a second after the handler's context. A message is hidden for twice as long: a sandbox that was
  # killed has its messages back soon, and one that is throttled does not use up their attempts. It is a minute at least:
  # AWS refuses a queue that hides messages for less than its function may take, which may be longer for a request or a
  # tick.
  timeouts   = { for name, s in local.seconds : name => s + 1 }
  visibility = { for name, s in local.timeouts : name => max(60, 2 * s) }
  sink_hides = max(120, try(local.visibility[local.sink], 0))
}

resource "aws_sns_topic" "topic" {
  for_each = local.topics

  name                        = reverse(split(":", each.value))[0]
  fifo_topic                  = true
  content_based_deduplication = false
  fifo_throughput_scope       = "MessageGroup"
}

# An event that failed for good goes to the topic of dead letters, by its function. What no attempt was answered for,
# since each sandbox was killed, is moved here by SQS. SQS also counts a receive for each event that waits behind a
# failing one of its key, so it moves later than the function does.
resource "aws_sqs_queue" "dead" {
  for_each = local.triggers

  name                       = "${var.name}-${each.key}-dlq.fifo"
  fifo_queue                 = true
  message_retention_seconds  = var.retention_days * 86400
  sqs_managed_sse_enabled    = true
  visibility_timeout_seconds = local.sink_hides
  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [local.queues[each.key]]
  })
}

resource "aws_sqs_queue" "trigger" {
  for_each = local.triggers

  name                       = "${var.name}-${each.key}.fifo"
  fifo_queue                 = true
  deduplication_scope        = "messageGroup"
  fifo_throughput_limit      = "perMessageGroupId"
  message_retention_seconds  = var.retention_days * 86400
  sqs_managed_sse_enabled    = true
  visibility_timeout_seconds = local.visibility[each.key]
  policy                     = local.from_topic[each.key]
  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead[each.key].arn
    maxReceiveCount     = min(1000, 3 * (local.deliveries[each.key].retry + 1))
  })
}

# The dead letters of all triggers, for the function that stores them. There is no place behind it.
resource "aws_sqs_queue" "sink" {
  count = local.sink == null ? 0 : 1

  name                       = "${var.name}-dead-${local.sink}.fifo"
  fifo_queue                 = true
  message_retention_seconds  = var.retention_days * 86400
  sqs_managed_sse_enabled    = true
  visibility_timeout_seconds = local.sink_hides
  policy                     = local.from_topic["dead"]
}

locals {
  # One topic may send to a queue, and nothing else may.
  from_topic = { for queue, arn in merge(local.queues, { for k in ["dead"] : k => local.sink_arn if local.sink != null }) : queue => jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "sns.amazonaws.com" }
      Action    = "sqs:SendMessage"
      Resource  = arn
      Condition = { ArnEquals = { "aws:SourceArn" = local.topics[queue == "dead" ? "dead" : "events"] } }
    }]
  }) }
}

resource "aws_sns_topic_subscription" "trigger" {
  for_each = local.triggers

  topic_arn            = aws_sns_topic.topic["events"].arn
  protocol             = "sqs"
  endpoint             = aws_sqs_queue.trigger[each.key].arn
  raw_message_delivery = true
  filter_policy        = length(local.policies[each.key]) == 0 ? null : jsonencode(local.policies[each.key])
  filter_policy_scope  = length(local.policies[each.key]) == 0 ? null : "MessageAttributes"
}

resource "aws_sns_topic_subscription" "sink" {
  count = local.sink == null ? 0 : 1

  topic_arn            = aws_sns_topic.topic["dead"].arn
  protocol             = "sqs"
  endpoint             = aws_sqs_queue.sink[0].arn
  raw_message_delivery = true
}

# Events that are too large for a message leave their data here, and travel with a reference.
resource "aws_s3_bucket" "blobs" {
  count = var.blobs ? 1 : 0

  bucket = local.bucket
  # It has copies only: the data of events on their way.
  force_destroy = true
}

resource "aws_s3_bucket_public_access_block" "blobs" {
  count = var.blobs ? 1 : 0

  bucket                  = aws_s3_bucket.blobs[0].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

# An event waits in a queue, and once more as a dead letter.
resource "aws_s3_bucket_lifecycle_configuration" "blobs" {
  count = var.blobs ? 1 : 0

  bucket = aws_s3_bucket.blobs[0].id
  rule {
    id     = "expire"
    status = "Enabled"
    filter {}
    expiration {
      days = 2 * var.retention_days + 2
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }
}
