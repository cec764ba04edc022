-- Asks for one request under several limits. KEYS are the counters, ARGV the window in microseconds and the quota of
-- each. Returns three numbers for each: how many requests are left, and the microseconds until it has its whole quota
-- and until it allows the request that it has refused, or 0. See infra/ratelimit/ratelimit.go, which computes the same.
local clock = redis.call('TIME')
local now = (clock[1] - 1767225600) * 1000000 + clock[2] -- since the beginning of 2026, so that fractions stay exact
local function tolerance(interval) return math.min(interval / 100, 1000) end -- sums of fractions are not exact
local counters, nexts, waits, refused = {}, {}, {}, false
for i, key in ipairs(KEYS) do
  local window, quota = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local counter = tonumber(redis.call('GET', key) or now)
  counters[i] = math.min(math.max(counter, now), now + window)
  nexts[i] = counters[i] + window / quota
  local early = nexts[i] - now - window
  waits[i] = early > tolerance(window / quota) and math.ceil(early) or 0
  refused = refused or waits[i] > 0
end
local answer = {}
for i, key in ipairs(KEYS) do
  local window, quota = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  if not refused then
    counters[i] = nexts[i]
    redis.call('SET', key, string.format('%.17g', nexts[i]), 'PX', math.max(math.ceil((nexts[i] - now) / 1000), 1))
  end
  local used = counters[i] - now
  local interval = window / quota
  answer[#answer + 1] = math.floor((window + tolerance(interval) - used) / interval)
  answer[#answer + 1] = math.ceil(used)
  answer[#answer + 1] = waits[i]
end
return answer
