locals {
  full    = "${var.prefix}-${var.name}"
  arn     = "arn:${var.account.partition}"
  place   = "${var.account.region}:${var.account.id}"
  table   = "${local.arn}:dynamodb:${local.place}:table/${local.full}"
  lambda  = "${local.arn}:lambda:${local.place}:function:${local.full}"
  logs    = "${local.arn}:logs:${local.place}:log-group:/aws/lambda/${local.full}"
  bucket  = var.blobs == null ? null : "${local.arn}:s3:::${var.blobs}"
  routes  = try(var.manifest.routes, [])
  says    = length(try(var.manifest.says, [])) > 0
  hears   = can(var.manifest.trigger.retry)
  sink    = try(var.manifest.dead_letters, false)
  front   = try(var.manifest.front, false)
  ticks   = try(var.manifest.ticks, false)
  keeps   = length(try(var.manifest.collections, [])) > 0
  sources = merge({ for k in ["events"] : k => var.queue.arn if local.hears && var.queue != null }, { for origin, arn in var.dead_letters : "dead-${origin}" => arn if local.sink })

  # An invocation ends before the queue hands its messages out again.
  timeout = max(
    length(local.routes) > 0 || local.front ? var.request_seconds : 3,
    try(var.queue.timeout, 3), local.sink || local.ticks ? 60 : 3,
  )
}

# Its environment. Secrets are named by their ARN; the program reads them when a sandbox starts.
locals {
  declared = { for s in try(var.manifest.settings, []) : s.variable => s }
  secrets  = { for k, s in local.declared : k => s if try(s.secret, false) }
  blobs    = var.blobs == null ? "" : "?blobs=s3://${var.blobs}"
  tuning   = join(",", [for k in ["retry", "timeout", "batch"] : "${k}=${var.delivery[k]}" if var.delivery[k] != null])
  shared   = { for k, v in var.config : k => v if length(local.routes) > 0 || local.front || contains(keys(local.declared), k) }
  computed = merge(
    { FUNCTION = var.name },
    { for k in ["EBB_STORE"] : k => "dynamodb://${var.account.region}/${local.full}" if local.keeps },
    { for k in ["EBB_BROKER"] : k => "sns:${var.topics.events}${local.blobs}" if local.says || local.hears },
    { for k in ["EBB_DEAD_LETTERS"] : k => "sns:${var.topics.dead}${local.blobs}" if local.hears },
    { for k in ["EBB_DELIVERY"] : k => local.tuning if local.tuning != "" },
    { for k in ["EBB_MANIFEST_HASH"] : k => var.manifest.hash if can(var.manifest.hash) },
  )
  plain = merge(local.shared, var.environment, var.settings, local.computed, {
    for k, arn in var.secrets : k => arn if contains(keys(local.secrets), k)
  })

  unknown_settings = setsubtract(keys(var.settings), keys(local.declared))
  secret_settings  = setintersection(keys(var.settings), keys(local.secrets))
  missing_settings = [for k, s in local.declared : k if try(s.required, false) && !contains(keys(local.plain), k)]
}

# What it may do: what it declares, and nothing else.
locals {
  statements = concat(
    [{ Sid = "Log", Effect = "Allow", Action = ["logs:CreateLogStream", "logs:PutLogEvents"], Resource = ["${local.logs}:*"] }],
    [for on in [local.keeps] : {
      Sid    = "Documents"
      Effect = "Allow"
      Action = [
        "dynamodb:ConditionCheckItem", "dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query", "dynamodb:UpdateItem",
      ]
      Resource = [local.table]
    } if on],
    [for on in [local.says || local.hears] : {
      Sid    = "Publish"
      Effect = "Allow"
      Action = ["sns:Publish"]
      Resource = concat(
        [for on in [local.says] : var.topics.events if on], [for on in [local.hears] : var.topics.dead if on],
      )
    } if on],
    [for on in [length(local.sources) > 0] : {
      Sid      = "Receive"
      Effect   = "Allow"
      Action   = ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"]
      Resource = sort(values(local.sources))
    } if on],
    [for on in [var.blobs != null && (local.says || local.hears)] : {
      Sid      = "LargeEvents"
      Effect   = "Allow"
      Action   = ["s3:GetObject", "s3:ListBucket", "s3:PutObject"] # without the list, data that is gone looks forbidden
      Resource = [coalesce(local.bucket, "-"), "${coalesce(local.bucket, "-")}/*"]
    } if on],
    [for on in [length(local.named) > 0] : {
      Sid      = "Secrets"
      Effect   = "Allow"
      Action   = ["ssm:GetParameters"]
      Resource = local.named
    } if on],
    [for on in [length(local.named) > 0 && var.secrets_key != null] : {
      Sid       = "SecretsKey"
      Effect    = "Allow"
      Action    = ["kms:Decrypt"]
      Resource  = [var.secrets_key]
      Condition = { StringEquals = { "kms:ViaService" = "ssm.${var.account.region}.amazonaws.com" } }
    } if on],
  )
  named = sort(distinct([
    for k, arn in var.secrets : replace(arn, "/(:parameter[/][^:]*):.*$/", "$1") if contains(keys(local.secrets), k) # without a version or a label
  ]))
}
