-- Sends the spool to the gateway: one request in flight, so that the order is kept; retries with backoff.

local Sender = {}
Sender.__index = Sender

local MIN_BACKOFF_S = 0.5
local MAX_BACKOFF_S = 60
-- Upper bound for the retry_after_ms of a gateway.
local MAX_RETRY_AFTER_S = 600
-- Timeout of a request in curl. A slow gateway may need several seconds for a durable write.
local TIMEOUT_S = 10
-- A request that curl has not ended after this time, for example behind requests of other mods, is given up.
local GIVE_UP_US = 60 * 1e6
local SHUTDOWN_TIMEOUT_US = 1e6
-- The code of an answer to a valid key that lacks a scope.
local FORBIDDEN = "forbidden"
-- After this time, an erasure that the API key may not make is tried again: the key may have got the scope meanwhile.
local ERASURE_RETRY_US = 600 * 1e6

-- options: spool, http ({fetch_async, fetch_async_get}), url, server, api_key, flush_interval (s), micros(),
-- parse(json), quote(text) -> JSON string, random() in [0, 1), log(level, text), S (the translator), warn(about, text)
-- to the admins, withdraw(about) a warning, discard(handle) of a request whose answer is not needed, lose(why, lines)
-- for events that are given up, on_ack() after each acknowledged segment, on_accepted(body, token) after each accepted
-- piece, Answer and Batch (classes).
function Sender.new(options)
	local self = setmetatable({}, Sender)
	for key, value in pairs(options) do
		self[key] = value
	end
	self.interval_us = options.flush_interval * 1e6
	self.next_us, self.retry_us = 0, math.huge
	self.failures = 0
	self.sent, self.rejected, self.refused = 0, 0, 0
	self.opening = '{"server":' .. options.quote(options.server) .. ',"events":['
	self.headers = {"Content-Type: application/json"}
	if options.api_key ~= "" then
		self.headers[2] = "Authorization: Bearer " .. options.api_key
	end
	return self
end

-- Sends an empty request while the server loads, and ignores the answer: the first request starts the engine's curl
-- thread, which takes a millisecond.
function Sender:greet()
	self.discard(self.http.fetch_async({
		url = self.url .. "/v1/events",
		method = "POST",
		timeout = TIMEOUT_S,
		data = '{"events":[]}',
		extra_headers = self.headers,
		quiet = true,
	}))
end

-- Sends a request or reads an answer, never both. Call it once in each server step. Returns true if it did either.
-- An error in it is raised again, after a pause is set: otherwise it would be raised in every step.
function Sender:step(now_us)
	local ok, busy = pcall(self.advance, self, now_us)
	if not ok then
		self:back_off("the mod failed", 0, now_us)
		error(busy, 0)
	end
	return busy
end

function Sender:advance(now_us)
	if self.flight then
		local result = self.http.fetch_async_get(self.flight.handle)
		if not result.completed and now_us - self.flight.began_us > GIVE_UP_US then
			self.discard(self.flight.handle)
			result = {completed = true, code = 0, timeout = true}
		end
		if result.completed then
			self:judge(result, now_us)
		end
		return result.completed
	elseif now_us >= self.retry_us and not self.batch then
		self.retry_us = math.huge
		self.spool:retry_erasure()
	elseif now_us >= self.next_us and (self.batch or self.spool:due(now_us, self.interval_us)) then
		self:fire(now_us)
		return true
	end
end

function Sender:fire(now_us)
	local batch = self.batch
	if not batch then
		local segment = self.spool:take()
		if not segment then
			return
		end
		batch = self.Batch.new(segment)
		self.batch = batch
	end
	local path, data = "/v1/events", self.opening .. "]}"
	if not batch.probing then
		data = batch:piece().body
		if batch.segment.erase then
			path = "/v1/erasures"
		else
			data = self.opening .. data .. "]}"
		end
	end
	self.flight = {
		began_us = now_us,
		handle = self.http.fetch_async({
			url = self.url .. path,
			method = "POST",
			timeout = TIMEOUT_S,
			data = data,
			extra_headers = self.headers,
			quiet = true,
		}),
	}
end

-- Removes the ids from an answer before it is parsed: they are not needed, and parsing 199 of them took a millisecond.
local function without_ids(body)
	local _, opening = body:find('"ids"%s*:%s*%[')
	local closing = opening and body:find("]", opening, true)
	return closing and body:sub(1, opening) .. body:sub(closing) or body
end

local function is_success(code)
	return code >= 200 and code < 300
end

-- What an answer means for the piece that was sent: "accepted", "refused" (its content; a retry is pointless), "wait"
-- (overload, outage, or an answer that cannot be understood: retry later), "barred" (the key may not erase), or "setup"
-- (wrong configuration, or another service at this address: keep the events and tell the admins). Then the list of
-- rejects, or the reason.
function Sender:verdict(code, answer)
	local batch = self.batch
	if is_success(code) then
		if batch.segment.erase and not batch.probing then
			local done = type(answer.erasure_id) == "string" and answer.erasure_id ~= ""
			return done and "accepted" or "setup", {}
		elseif answer.accepted == nil then
			return "setup"
		end
		local rejects, why = self.Answer.rejects_of(answer, batch.probing and 0 or batch:piece().count)
		return rejects and "accepted" or "wait", rejects or why
	elseif code == 0 or code == 408 or code == 429 or code >= 500 then
		return "wait"
	elseif not batch.probing and (code == 413 or (code == 400 or code == 422) and self.Answer.error_of(answer)) then
		return "refused"
	elseif code == 403 and batch.segment.erase and not batch.probing and self.Answer.error_of(answer) == FORBIDDEN then
		return "barred"
	end
	return "setup"
end

function Sender:judge(result, now_us)
	self.flight = nil
	local batch = self.batch
	local code, answer, trouble = self.Answer.read(self.parse, result, without_ids)
	if code ~= 0 then
		self.answered_us = now_us
	end
	local verdict, detail = self:verdict(code, answer)
	local fault, message = self.Answer.error_of(answer)
	if verdict == "barred" then
		self:hold(message, now_us)
		return
	elseif verdict == "refused" then
		self:refuse(code, fault, message)
	elseif verdict == "accepted" then
		self:accept(detail, type(answer.token) == "string" and answer.token or nil)
	end
	if verdict == "accepted" or verdict == "refused" then
		self.next_us = now_us + self.Answer.pause_of(answer, MAX_RETRY_AFTER_S) * 1e6
		if not self.batch then
			self.on_ack()
		end
		return
	end
	if not batch:is_split() and not batch.probing then
		-- It may lose events while it waits.
		batch.segment.taken, self.batch = nil, nil
	end
	local reason = code == 0 and "no answer" or "HTTP " .. code
	if type(detail) == "string" or trouble and is_success(code) then
		reason = reason .. ", an answer that cannot be understood: " .. (trouble or detail)
	end
	self:back_off(reason, self.Answer.pause_of(answer, MAX_RETRY_AFTER_S), now_us)
	if verdict == "setup" then
		self:explain(code, fault, message)
	end
end

-- After a refusal of the whole piece: halves it, or gives up its only event.
function Sender:refuse(code, fault, message)
	local batch = self.batch
	if batch:halve() then
		return
	elseif not batch.proven then
		-- Before an event is given up, an empty batch shows whether the gateway would accept any.
		batch.probing = true
		return
	end
	self.refused = self.refused + 1
	self.lose(("refused by the gateway (HTTP %d %s: %s)"):format(code, fault or "without a code",
		message or "no reason given"), {batch:piece().body})
	self:finish_piece()
end

-- After the acceptance of the piece. token: the receipt of the write.
function Sender:accept(rejects, token)
	if self.failures > 0 or not self.connected then
		self.log("action", "connected to " .. self.url)
	end
	self.failures, self.connected, self.last_error, self.explained = 0, true, nil, nil
	local batch = self.batch
	batch.proven = true
	if batch.probing then
		batch.probing = nil
		return
	end
	if #rejects > 0 then
		self:give_up(batch:lines(), rejects)
	end
	if batch.segment.erase then
		self.retry_us, self.barred = 0, nil
		self.withdraw("erasing")
	else
		self.sent = self.sent + batch:piece().count - #rejects
		self.on_accepted(batch:piece().body, token)
	end
	self:finish_piece()
end

-- Lets later events pass an erasure that the key may not make.
function Sender:hold(message, now_us)
	self.spool.erasures:hold(self.batch.segment)
	self.batch = nil
	self.retry_us = now_us + ERASURE_RETRY_US
	if not self.barred then
		self.barred = true
		local text = self.S("the API key may not erase: @1. Erasures wait until it may.", tostring(message))
		self.log("error", text)
		self.warn("erasing", text)
	end
end

-- Records rejected events as lost, those of one code together, with the message of the first.
function Sender:give_up(lines, rejects)
	local groups, codes = {}, {}
	for _, reject in ipairs(rejects) do
		local group = groups[reject.code]
		if not group then
			group = {why = ("rejected by the gateway (%s: %s)"):format(reject.code, reject.message), lines = {}}
			groups[reject.code] = group
			codes[#codes + 1] = reject.code
		end
		group.lines[#group.lines + 1] = lines[reject.index]
	end
	for _, code in ipairs(codes) do
		self.lose(groups[code].why, groups[code].lines)
	end
	self.rejected = self.rejected + #rejects
end

function Sender:finish_piece()
	if self.batch:next_piece() then
		self.spool:done(self.batch.segment)
		self.batch = nil
	end
end

-- Exponential backoff with jitter in [0.5, 1] of the delay, and at least what the gateway asked for, in seconds.
function Sender:back_off(reason, asked, now_us)
	self.failures = self.failures + 1
	local delay = math.min(MAX_BACKOFF_S, MIN_BACKOFF_S * 2 ^ math.min(self.failures - 1, 20))
	delay = math.max(delay * (0.5 + 0.5 * self.random()), asked)
	self.next_us = now_us + delay * 1e6
	self.last_error = reason
	if not self.explained and (self.failures == 1 or self.failures % 10 == 0) then
		self.log("warning", ("%s from %s: %d events are kept, next attempt in %.1f s"):format(
			reason, self.url, self.spool.count, delay))
	end
end

function Sender:explain(code, fault, message)
	local S, why = self.S
	if code == 401 or code == 403 and fault ~= FORBIDDEN then
		why = S("the gateway refuses the API key, set @1 in the server's configuration", "lorestream.api_key = ID.SECRET")
	elseif fault == "wrong_service" then
		why = S("lorestream.url does not point to the gateway: @1", tostring(message))
	elseif fault and code ~= 404 then
		why = S("the gateway refuses every request of this server: @1: @2", fault, tostring(message))
	else
		why = S("no Lorestream gateway at this address, set @1 in the server's configuration",
			"lorestream.url = http://HOST:PORT")
	end
	local line = S("@1 from @2: @3. Events are kept.", self.last_error, self.url, why)
	if self.explained ~= line then
		self.explained = line
		self.log("error", line)
		self.warn("sending", line)
	end
end

-- At shutdown, no more callbacks run: wait for the request in flight, then send the rest, within one second in total.
-- Events without an answer stay in their files until the next start.
function Sender:finish()
	local deadline = self.micros() + SHUTDOWN_TIMEOUT_US
	local failures = self.failures
	repeat
		if not self.flight then
			self:fire(self.micros())
		end
		local flight = self.flight
		while flight and self.flight == flight and self.micros() < deadline do
			self:step(self.micros())
		end
	until self.flight or self.failures > failures or not flight or self.micros() >= deadline
end

return Sender
