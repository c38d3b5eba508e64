-- Tells callers of put and emit what became of their event: the receipt (the token of the write) once the gateway has
-- accepted it, or why it was not. A search that is given the receipt waits until it can find the event.

local Receipts = {}
Receipts.__index = Receipts

-- An event that is not accepted by then is still sent later; only its caller waits no longer.
local WAIT_US = 30 * 1e6
local MAX_WAITING = 4096

-- options: micros(), lines_in(body), id_of(line), callbacks, can_send.
function Receipts.new(options)
	local self = setmetatable({of = {}, waiting = {}, first = 1, last = 0, ready = {}}, Receipts)
	for key, value in pairs(options) do
		self[key] = value
	end
	return self
end

-- A function that calls write, and gives a receipt to its argument number n, if that is a function.
function Receipts:wrap(write, n)
	return function(...)
		local id, why = write(...)
		local callback = select(n, ...)
		if type(callback) == "function" then
			self:await(id, why, callback)
		end
		return id, why
	end
end

function Receipts:await(id, why, callback)
	local receipt = {id = id, callback = callback, due_us = self.micros() + WAIT_US}
	if not id then
		self:settle(receipt, nil, "refused: " .. tostring(why))
	elseif self.closed then
		self:settle(receipt, nil, "shutdown")
		self:call()
	elseif not self.can_send then
		self:settle(receipt, nil, "no_http")
	elseif self.last - self.first >= MAX_WAITING then
		self:settle(receipt, nil, "busy")
	else
		self.last = self.last + 1
		self.waiting[self.last], self.of[id] = receipt, receipt
	end
end

function Receipts:settle(receipt, token, reason)
	if receipt.settled then
		return
	end
	receipt.settled, receipt.token, receipt.reason = true, token, reason
	if receipt.id then
		self.of[receipt.id] = nil
	end
	self.ready[#self.ready + 1] = receipt
end

-- Settles the receipts of the events in these texts of joined lines.
function Receipts:settle_lines(texts, token, reason)
	if next(self.of) == nil then
		return
	end
	for _, text in ipairs(texts) do
		for _, line in ipairs(self.lines_in(text)) do
			local receipt = self.of[self.id_of(line)]
			if receipt then
				self:settle(receipt, token, reason)
			end
		end
	end
end

-- Settles the receipts of these events without a token. ids: from ids.lua.
function Receipts:settle_ids(ids, reason)
	if next(self.of) == nil then
		return
	end
	ids:each(function(id)
		local receipt = self.of[id]
		if receipt then
			self:settle(receipt, nil, reason)
		end
	end)
end

-- Calls the callbacks of what is settled.
function Receipts:call()
	local ready = self.ready
	self.ready = {}
	for _, receipt in ipairs(ready) do
		self.callbacks.call("a callback of a write", receipt.callback, receipt.token, receipt.reason)
	end
end

-- Call it once in each server step.
function Receipts:step(now_us)
	while self.first <= self.last do
		local receipt = self.waiting[self.first]
		if not receipt.settled and now_us < receipt.due_us then
			break
		end
		self:settle(receipt, nil, "timeout")
		self.waiting[self.first] = nil
		self.first = self.first + 1
	end
	self:call()
end

-- At shutdown, after the last events were sent.
function Receipts:close()
	self.closed = true
	for _, receipt in pairs(self.of) do
		self:settle(receipt, nil, "shutdown")
	end
	self:call()
end

return Receipts
