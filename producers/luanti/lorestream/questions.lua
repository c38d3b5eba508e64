-- Searches at the query service. Each callback is called exactly once, in a later server step, and not later than the
-- timeout. On any failure it gets an empty table and a reason.

local Questions = {}
Questions.__index = Questions

-- All mods share the engine's parallel requests (8 by default).
local MAX_IN_FLIGHT = 4
local MAX_WAITING = 256
-- With this many token buckets, those that are full again are removed.
local MAX_BUCKETS = 2000

-- options: http or nil, url, api_key, timeout (s), rate (1/s), burst, micros(), parse(json), log(level, text),
-- Answer (class).
function Questions.new(options)
	local self = setmetatable({}, Questions)
	for key, value in pairs(options) do
		self[key] = value
	end
	self.timeout_us = options.timeout * 1e6
	self.pending, self.waiting = {}, {}
	self.in_flight, self.buckets, self.bucket_count = 0, {}, 0
	self.asked, self.failed = 0, 0
	self.step_us = 0
	self.headers = {"Content-Type: application/json"}
	if options.api_key ~= "" then
		self.headers[2] = "Authorization: Bearer " .. options.api_key
	end
	return self
end

-- Takes one token from the agent's bucket. Returns false if it is empty (rate limited).
function Questions:allow(agent_id, now_us)
	local bucket = self.buckets[agent_id]
	if not bucket then
		if self.bucket_count >= MAX_BUCKETS then
			self:clear_buckets(now_us)
		end
		bucket = {tokens = self.burst, at_us = now_us}
		self.buckets[agent_id] = bucket
		self.bucket_count = self.bucket_count + 1
	end
	bucket.tokens = math.min(self.burst, bucket.tokens + (now_us - bucket.at_us) / 1e6 * self.rate)
	bucket.at_us = now_us
	if bucket.tokens < 1 then
		return false
	end
	bucket.tokens = bucket.tokens - 1
	return true
end

function Questions:clear_buckets(now_us)
	for agent_id, bucket in pairs(self.buckets) do
		if bucket.tokens + (now_us - bucket.at_us) / 1e6 * self.rate >= self.burst then
			self.buckets[agent_id] = nil
			self.bucket_count = self.bucket_count - 1
		end
	end
end

-- Sends a request to path. body: JSON, or nil with the reason in why. pick(answer) returns what the callback
-- gets, or nil.
function Questions:ask(agent_id, path, body, why, pick, callback)
	local now_us = self.micros()
	local question = {path = path, body = body, pick = pick, callback = callback, due_us = now_us + self.timeout_us}
	self.asked = self.asked + 1
	if not body then
		question.reason = "invalid: " .. tostring(why)
	elseif not self.http then
		question.reason = "no_http"
	elseif #self.waiting >= MAX_WAITING then
		question.reason = "busy"
	elseif not self:allow(agent_id, now_us) then
		question.reason = "rate_limited"
	elseif self.in_flight < MAX_IN_FLIGHT then
		self:fire(question)
	else
		self.waiting[#self.waiting + 1] = question
	end
	self.pending[#self.pending + 1] = question
end

function Questions:fire(question)
	self.in_flight = self.in_flight + 1
	question.handle = self.http.fetch_async({
		url = self.url .. question.path,
		method = "POST",
		-- Releases before 5.14 cut off fractions.
		timeout = math.ceil(self.timeout),
		data = question.body,
		extra_headers = self.headers,
	})
end

-- Reads a completed request: returns what the callback gets, or nil and the reason.
function Questions:read(question, result)
	local code, answer, trouble = self.Answer.read(self.parse, result)
	if code == 0 then
		return nil, result.timeout and "timeout" or "unreachable"
	elseif trouble or code < 200 or code >= 300 then
		return nil, self.Answer.error_of(answer) or "HTTP " .. code
	end
	local found = question.pick(answer)
	return found, not found and "unexpected answer" or nil
end

-- Collects answers, and ends requests that time out. Call it once in each server step.
function Questions:step(now_us)
	if #self.pending == 0 then
		self.last_us = now_us
		return
	end
	-- A request that would time out before the next step is ended now. The duration of the last step predicts the next
	-- one, but is limited: a pause of the server, as at start, predicts nothing.
	self.step_us = math.min(now_us - (self.last_us or now_us), self.timeout_us / 4)
	self.last_us = now_us
	local pending = self.pending
	self.pending = {}
	for _, question in ipairs(pending) do
		local found, reason = nil, question.reason
		if not reason and question.handle and not question.over then
			local result = self.http.fetch_async_get(question.handle)
			if result.completed then
				question.over = true
				self.in_flight = self.in_flight - 1
				found, reason = self:read(question, result)
			end
		end
		if not found and not reason and now_us + self.step_us >= question.due_us then
			reason = "timeout"
		end
		if found or reason then
			self:finish(question, found, reason)
		else
			self.pending[#self.pending + 1] = question
		end
	end
	self:start_waiting()
end

function Questions:start_waiting()
	while self.in_flight < MAX_IN_FLIGHT and #self.waiting > 0 do
		local question = table.remove(self.waiting, 1)
		if not question.finished then
			self:fire(question)
		end
	end
end

function Questions:finish(question, found, reason)
	question.finished = true
	if question.handle and not question.over then
		-- curl is still busy with it, but will end it within a second: its timeout is the same, rounded up.
		question.over = true
		self.in_flight = self.in_flight - 1
	end
	if not found then
		self.failed = self.failed + 1
		self.last_error = reason
	end
	local ok, trouble = pcall(question.callback, found or {}, reason)
	if not ok then
		self.log("error", "a callback raised an error: " .. tostring(trouble))
	end
end

-- Ends all requests at shutdown: there are no more steps.
function Questions:close()
	local pending = self.pending
	self.pending, self.waiting = {}, {}
	for _, question in ipairs(pending) do
		self:finish(question, nil, "shutdown")
	end
end

return Questions
