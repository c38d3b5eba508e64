-- Writes to documents of agents, at once and over HTTP. Writes to one document are made one after the other. One that
-- gets no answer is repeated with the same event_id, so that it is applied once.

local Documents = {}
Documents.__index = Documents

-- A write is given up after this many times the timeout.
local MOST_TIMEOUTS = 5
local MAX_WAITING = 1024
local MIN_BACKOFF_S = 0.5
-- Requests that are left to searches: a write of a document may take long, and nobody in the game waits for it.
local LEFT_TO_SEARCHES = 1
-- Callbacks after shutdown: callbacks that write again and again would keep the server from stopping.
local MAX_LATE = 10000
-- The part of the timeout that the service may wait until the write is applied.
local WAIT = 0.6

-- options: requests, url, timeout (s), boot, micros(), callbacks, Answer (class), on_write(agent_id).
function Documents.new(options)
	local self = setmetatable({queues = {}, count = 0, sequence = 0, failed = 0, paused_until_us = 0}, Documents)
	for key, value in pairs(options) do
		self[key] = value
	end
	self.query = ("?wait=applied&timeout_ms=%d"):format(options.timeout * WAIT * 1000)
	return self
end

-- A new event_id.
function Documents:new_id()
	self.sequence = self.sequence + 1
	return self.boot .. ":s" .. self.sequence
end

-- Adds a write: {agent_id, path, verb (the end of the path), event_id, body (JSON, nil if it is invalid), why (the
-- reason then), over (a reason not to send it, or nil), callback or nil}.
-- callback({event_id, version, token, applied}, nil), or ({event_id, current}, reason), in a later step.
function Documents:write(write)
	write.due_us = self.micros() + MOST_TIMEOUTS * self.timeout * 1e6
	write.next_us, write.tries = 0, 0
	if not write.body and not write.over then
		write.over = "invalid: " .. tostring(write.why)
	elseif not self.requests.http then
		write.over = write.over or "no_http"
	elseif self.count >= MAX_WAITING then
		write.over = "busy"
	end
	local queue = self.queues[write.path]
	if not queue then
		queue = {}
		self.queues[write.path] = queue
	end
	queue[#queue + 1] = write
	self.count = self.count + 1
	if self.closed then
		self:close()
	end
end

-- Sends what can be sent, and ends what is over. Call it once in each server step.
function Documents:step(now_us)
	if self.count == 0 then
		return
	end
	-- Callbacks may add writes, so the queues are not walked through while they are called.
	local heads = {}
	for _, queue in pairs(self.queues) do
		heads[#heads + 1] = queue[1]
	end
	local may_send = now_us >= self.paused_until_us
	for _, write in ipairs(heads) do
		if not write.over and now_us >= write.due_us then
			write.over = write.trouble or "timeout"
		end
		if write.over then
			self:finish(write)
		elseif may_send and not write.request and now_us >= write.next_us and self.requests:free() > LEFT_TO_SEARCHES then
			write.tries = write.tries + 1
			write.request = self.requests:send(self.url .. write.path .. write.verb .. self.query, write.body,
				self.timeout, function(...)
					self:judge(write, ...)
				end)
		end
	end
end

local function number_or_nil(value)
	return type(value) == "number" and value or nil
end

-- Takes the answer to a write, or lets it be repeated.
function Documents:judge(write, answer, reason, code)
	write.request = nil
	if not reason then
		write.result = {event_id = write.event_id, version = number_or_nil(answer.version),
			token = type(answer.token) == "string" and answer.token or nil, applied = answer.applied == true}
		if write.result.applied then
			write.over = "applied"
		end
		-- Otherwise it is durable: asked again, the service says what became of it.
	elseif code >= 400 and code < 500 and code ~= 408 and code ~= 429 then
		local fault = type(answer) == "table" and type(answer.error) == "table" and answer.error or {}
		local details = type(fault.details) == "table" and fault.details or {}
		write.over, write.result, write.current = reason, nil, number_or_nil(details.current)
		return
	end
	write.trouble = reason
	if reason == "unreachable" then
		self.paused_until_us = self.micros() + MIN_BACKOFF_S * 1e6
	end
	local pause_s = math.max(MIN_BACKOFF_S * 2 ^ (write.tries - 1), answer and self.Answer.pause_of(answer, 60) or 0)
	write.next_us = self.micros() + pause_s * 1e6
end

function Documents:finish(write)
	local queue = self.queues[write.path]
	table.remove(queue, 1)
	if #queue == 0 then
		self.queues[write.path] = nil
	end
	self.count = self.count - 1
	if write.request then
		write.request.over = true
	end
	self.on_write(write.agent_id)
	local result, reason = write.result, nil
	if not result then
		self.failed = self.failed + 1
		result, reason = {event_id = write.event_id, current = write.current}, write.over
	end
	if write.callback then
		self.callbacks.call("a callback of a state", write.callback, result, reason)
	end
end

-- Ends all writes at shutdown, and each later one at once. Those that were sent may be applied all the same.
function Documents:close()
	if self.closing then
		return
	end
	self.closed, self.closing = true, true
	local left = MAX_LATE
	local _, queue = next(self.queues)
	while queue and left > 0 do
		left = left - 1
		queue[1].over = queue[1].over or "shutdown"
		self:finish(queue[1])
		_, queue = next(self.queues)
	end
	self.closing = false
end

return Documents
