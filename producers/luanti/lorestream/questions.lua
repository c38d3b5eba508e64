-- Reads at the query service. What is asked in one server step travels in one request. Each callback is called exactly
-- once, in a later server step, and not later than the timeout. On any failure it gets an empty table and a reason.

local Questions = {}
Questions.__index = Questions

local PATH = "/v1/memories/search/batch"
-- What one request holds at most. The service takes 64 reads and 1 MiB.
local MAX_READS = 64
local MAX_BYTES = 256 * 1024
-- Memories that the answer to one request may have, so that it stays small enough to be parsed.
local MAX_MEMORIES = 320
local MAX_WAITING = 1024
-- Where nothing answers, no request is sent for this time.
local PAUSE_US = 1e6
-- The service refuses a whole request with these codes because of a part of it.
local BLAMES_ONE = {[400] = true, [413] = true, [422] = true}
-- The reads of a request share what it may cost: one that had too little left is asked again alone.
local OVER_BUDGET = "over_budget"
-- Callbacks after shutdown: callbacks that ask again and again would keep the server from stopping.
local MAX_LATE = 10000

-- For each kind of read: its list in a request and in the answer, and what the callback gets of one result, or nil if
-- that is not understood.
local KINDS = {}
KINDS.search = {asks = "searches", answers = "results", pick = function(result, Answer)
	return Answer.memories(result.memories)
end}
KINDS.context = {asks = "contexts", answers = "contexts", pick = function(result, Answer)
	if type(result.text) ~= "string" then
		return nil
	end
	for _, list in ipairs({"recent", "relevant", "neighbours"}) do
		result[list] = Answer.memories(result[list]) or {}
	end
	result.tokens = tonumber(result.tokens)
	return result
end}
KINDS.document = {asks = "entities", answers = "entities", pick = function(result)
	-- An empty object is no null, so it is there.
	return type(result.data) == "table" and type(result.version) == "number" and result or nil
end}

-- options: requests, url, timeout (s), cache_ttl (s), rate (rate.lua), micros(), callbacks, log(level, text),
-- Known (class), Answer (class).
function Questions.new(options)
	local self = setmetatable({}, Questions)
	for key, value in pairs(options) do
		self[key] = value
	end
	self.timeout_us = options.timeout * 1e6
	self.known = options.Known.new(options.cache_ttl * 1e6)
	self.pending, self.waiting = {}, {}
	self.asked, self.failed, self.cached, self.shared = 0, 0, 0, 0
	self.step_us, self.late, self.paused_until_us = 0, 0, 0
	return self
end

-- Asks for one read. read: {kind, agents (list of ids; the rate of the first is limited), body (JSON, nil if the
-- question is invalid), why (the reason then), size (number of memories expected), slow (it may wait in the service,
-- and does not hold up others), private (its answer is neither kept nor shared)}.
-- callback(found, reason, fresh): see api.md.
function Questions:ask(read, callback)
	local now_us = self.micros()
	local caller = {callback = callback, due_us = now_us + self.timeout_us}
	self.asked = self.asked + 1
	self.pending[#self.pending + 1] = caller
	if self.closed then
		self:close()
	elseif not read.body then
		caller.reason = "invalid: " .. tostring(read.why)
	elseif not self.requests.http then
		caller.reason = "no_http"
	else
		caller.read, caller.reason = self:join_or_open(read, now_us)
		if caller.read then
			caller.read.callers = caller.read.callers + 1
		end
	end
end

-- The equal read that is open or answered, or this one, which is sent with the next request; or nil and the reason.
function Questions:join_or_open(read, now_us)
	read.key = not read.private and read.kind .. read.body or nil
	local equal = self.known:find(read.key)
	if equal then
		local count = equal.found and "cached" or "shared"
		self[count] = self[count] + 1
		return equal
	elseif now_us < self.paused_until_us then
		return nil, "unreachable"
	elseif #self.waiting >= MAX_WAITING then
		return nil, "busy"
	elseif not self.rate:allow(read.agents[1], now_us) then
		return nil, "rate_limited"
	end
	read.callers, read.most = 0, MAX_READS
	self.known:open(read)
	self.waiting[#self.waiting + 1] = read
	return read
end

-- After a write of this agent: later questions are asked anew.
function Questions:forget(agent_id)
	self.known:forget(agent_id)
end

-- Sends what waits. Call it once in each server step, after the other mods have asked.
function Questions:flush()
	while #self.waiting > 0 and self.requests:free() > 0 do
		local batch = self:next_batch()
		if #batch > 0 then
			self:send(batch)
		end
	end
end

-- Takes the reads of the next request from those that wait. Slow ones travel apart.
function Questions:next_batch()
	local batch, left, bytes, memories = {}, {}, 0, 0
	for _, read in ipairs(self.waiting) do
		local first = batch[1]
		local fits = not first or #batch < first.most and read.most == first.most and read.slow == first.slow
			and bytes + #read.body <= MAX_BYTES and memories + read.size <= MAX_MEMORIES
		if read.callers > 0 and fits then
			batch[#batch + 1] = read
			bytes, memories = bytes + #read.body, memories + read.size
		elseif read.callers > 0 then
			left[#left + 1] = read
		end
	end
	self.waiting = left
	return batch
end

function Questions:send(batch)
	local lists, parts = {}, {}
	for _, read in ipairs(batch) do
		local asks = KINDS[read.kind].asks
		lists[asks] = lists[asks] or {}
		table.insert(lists[asks], read.body)
		read.place, read.batch = #lists[asks], batch
	end
	for asks, bodies in pairs(lists) do
		parts[#parts + 1] = ('"%s":[%s]'):format(asks, table.concat(bodies, ","))
	end
	batch.request = self.requests:send(self.url .. PATH, "{" .. table.concat(parts, ",") .. "}", self.timeout,
		function(...)
			self:distribute(batch, ...)
		end, #batch == 1 and batch[1].kind == "document" and self.Answer.MAX_DOCUMENT_BYTES or nil)
end

-- Asks these reads again, in requests of at most `most` reads, before those that wait.
function Questions:ask_again(reads, most)
	local waiting = {}
	for _, read in ipairs(reads) do
		read.most, read.batch = most, nil
		waiting[#waiting + 1] = read.callers > 0 and read or nil
	end
	for _, read in ipairs(self.waiting) do
		waiting[#waiting + 1] = read
	end
	self.waiting = waiting
end

-- Hands the answer to a request to its reads.
function Questions:distribute(batch, answer, reason, code)
	if #batch > 1 and (reason == "answer_too_large" or BLAMES_ONE[code]) then
		-- One of them is to blame: the others are answered without it.
		self:ask_again(batch, math.ceil(#batch / 2))
		return
	end
	local again = {}
	local now_us = self.micros()
	if reason == "unreachable" then
		self.paused_until_us = now_us + PAUSE_US
	end
	for _, read in ipairs(batch) do
		local kind = KINDS[read.kind]
		local results = not reason and answer[kind.answers]
		local result = type(results) == "table" and results[read.place]
		if reason then
			read.reason = reason
		elseif type(result) ~= "table" then
			read.reason = "unexpected answer"
		elseif result.error ~= nil then
			read.reason = self.Answer.error_of(result) or "unexpected answer"
		else
			read.found = kind.pick(result, self.Answer)
			read.reason = not read.found and "unexpected answer" or nil
			read.fresh = result.fresh ~= false
		end
		if read.reason == OVER_BUDGET and #batch > 1 then
			read.reason = nil
			again[#again + 1] = read
		elseif read.found and read.fresh then
			self.known:keep(read, now_us)
		else
			self.known:remove(read)
		end
	end
	self:ask_again(again, 1)
end

-- Collects answers, and ends questions that time out. Call it once in each server step.
function Questions:step(now_us)
	-- A question that would time out before the next step is ended now. The longest of the last steps predicts the next
	-- one, but is limited: a pause of the server, as at start, predicts nothing.
	local step_us = math.max(now_us - (self.last_us or now_us), 0.95 * self.step_us)
	self.step_us = math.min(step_us, self.timeout_us / 4)
	self.last_us = now_us
	self.known:expire(now_us)
	if #self.pending == 0 then
		return
	end
	local pending = self.pending
	self.pending = {}
	for _, caller in ipairs(pending) do
		local read = caller.read
		if caller.reason then
			self:finish(caller, nil, caller.reason)
		elseif read.found or read.reason then
			self:finish(caller, read.found, read.reason)
		elseif now_us + self.step_us >= caller.due_us then
			self:finish(caller, nil, "timeout")
		else
			self.pending[#self.pending + 1] = caller
		end
	end
end

-- A copy, so that callbacks that change what they get do not change what others get.
local function copy_of(value)
	if type(value) ~= "table" then
		return value
	end
	local copy = {}
	for key, item in pairs(value) do
		copy[key] = copy_of(item)
	end
	return copy
end

function Questions:finish(caller, found, reason)
	local read = caller.read
	if read then
		read.callers = read.callers - 1
		if read.callers == 0 and not read.found and not read.reason then
			self:abandon(read)
		end
	end
	if not found then
		self.failed = self.failed + 1
		self.last_error = reason
	end
	self.callbacks.call("a callback of a search", caller.callback, copy_of(found) or {}, reason, read and read.fresh)
end

-- Nobody waits for this read any more.
function Questions:abandon(read)
	self.known:remove(read)
	local batch = read.batch
	if not batch then
		return
	end
	for _, other in ipairs(batch) do
		if other.callers > 0 then
			return
		end
	end
	batch.request.over = true
end

-- Ends all questions at shutdown, and each later one at once: there are no more steps.
function Questions:close()
	if self.closing then
		return -- a callback has asked: the loop below reaches its question
	end
	self.closed, self.closing = true, true
	while #self.pending > 0 and self.late < MAX_LATE do
		self.late = self.late + 1
		self:finish(table.remove(self.pending, 1), nil, "shutdown")
	end
	self.closing = false
	if #self.pending > 0 then
		self.log("error", ("%d questions after the shutdown have no callback: callbacks ask again without end"):format(
			#self.pending))
		self.pending = {}
	end
end

return Questions
