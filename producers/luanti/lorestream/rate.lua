-- How often each agent may ask: a token bucket for each.

local Rate = {}
Rate.__index = Rate

-- With this many buckets, those that are full again are removed.
local MAX_BUCKETS = 2000

-- per_s: tokens per second. burst: the most that a bucket holds.
function Rate.new(per_s, burst)
	return setmetatable({per_s = per_s, burst = burst, buckets = {}, count = 0}, Rate)
end

-- Takes one token from the agent's bucket. Returns false if it is empty.
function Rate:allow(agent_id, now_us)
	local bucket = self.buckets[agent_id]
	if not bucket then
		if self.count >= MAX_BUCKETS then
			self:clear(now_us)
		end
		bucket = {tokens = self.burst, at_us = now_us}
		self.buckets[agent_id] = bucket
		self.count = self.count + 1
	end
	bucket.tokens = math.min(self.burst, bucket.tokens + (now_us - bucket.at_us) / 1e6 * self.per_s)
	bucket.at_us = now_us
	if bucket.tokens < 1 then
		return false
	end
	bucket.tokens = bucket.tokens - 1
	return true
end

function Rate:clear(now_us)
	for agent_id, bucket in pairs(self.buckets) do
		if bucket.tokens + (now_us - bucket.at_us) / 1e6 * self.per_s >= self.burst then
			self.buckets[agent_id] = nil
			self.count = self.count - 1
		end
	end
end

return Rate
