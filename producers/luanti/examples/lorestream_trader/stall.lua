-- The business of one trader: he names prices, hands goods over, waits for the money, and remembers how it went.
-- Pure: the engine's part gives him the time, what he remembers, and what customers say.

local Stall = {}
Stall.__index = Stall

-- options: mind, clock() in seconds, remember(text, metadata), count(what, amount), goods {NAME = {cost, list}} in
-- coins, due_s (a customer who has not paid after this time has cheated), debts (a table in which the debts are kept).
function Stall.new(options)
	local self = setmetatable({queue = {}, talks = {}}, Stall)
	for key, value in pairs(options) do
		self[key] = value
	end
	return self
end

-- A customer asks for a good. hear(price) is called when it is his turn: with the first price, or with nil and the
-- reason why the trader does not deal with him: "owes" or "distrust".
function Stall:enter(customer, good, hear)
	table.insert(self.queue, {customer = customer, good = good, hear = hear})
end

-- Serves the next customer. ask(question, …) returns the memories that answer each question; it may wait.
function Stall:serve(ask)
	local guest = table.remove(self.queue, 1)
	if guest then
		local of_customer, of_good = ask(self.mind.about_customer(guest.customer), self.mind.about_good(guest.good))
		guest.hear(self:offer(guest.customer, guest.good, of_customer, of_good))
	end
end

function Stall:offer(customer, good, of_customer, of_good)
	if self.debts[customer] then
		return nil, "owes"
	end
	local ware, now_s = self.goods[good], self.clock()
	local worth, deals = self.mind.worth(of_good, now_s, ware.list)
	local asks = self.mind.asks(worth, deals, ware.cost)
	if not self.mind.deals(self.mind.trust(of_customer, now_s), asks[1], ware.cost) then
		return nil, "distrust"
	end
	self.talks[customer] = {good = good, asks = asks, turn = 1}
	return asks[1]
end

-- The customer finds it too dear. Returns the next price, or nil if it was the last one.
function Stall:too_dear(customer)
	local talk = self.talks[customer]
	if not talk then
		return nil
	elseif talk.turn == #talk.asks then
		return self:leave(customer)
	end
	talk.turn = talk.turn + 1
	return talk.asks[talk.turn]
end

-- The customer goes away without a deal.
function Stall:leave(customer)
	local talk = self.talks[customer]
	if talk then
		self.talks[customer] = nil
		self:note(customer, talk.good, "no_deal", talk.asks[talk.turn], talk.turn == 1)
	end
end

-- The customer takes the good at the last price. Returns the good and the price; nil if he was offered nothing.
function Stall:take(customer)
	local talk = self.talks[customer]
	if not talk then
		return nil
	end
	self.talks[customer] = nil
	local price = talk.asks[talk.turn]
	self.count("gold", -self.goods[talk.good].cost)
	self.debts[customer] = {good = talk.good, price = price, first = talk.turn == 1, due_s = self.clock() + self.due_s}
	return talk.good, price
end

-- What a customer owes, in coins; nil if nothing.
function Stall:owed(customer)
	local debt = self.debts[customer]
	return debt and debt.price
end

-- The customer pays what he owes. Returns the price, or nil if he owes nothing.
function Stall:pay(customer)
	local debt = self.debts[customer]
	if debt then
		self.debts[customer] = nil
		self.count("gold", debt.price)
		self:note(customer, debt.good, "paid", debt.price, debt.first)
		return debt.price
	end
end

-- Gives up the debts that are overdue.
function Stall:give_up()
	local overdue = {}
	for customer, debt in pairs(self.debts) do
		overdue[#overdue + 1] = self.clock() >= debt.due_s and customer or nil
	end
	for _, customer in ipairs(overdue) do
		local debt = self.debts[customer]
		self.debts[customer] = nil
		self.count("cheated", 1)
		self:note(customer, debt.good, "cheated", debt.price, debt.first)
	end
end

function Stall:note(customer, good, outcome, price, first)
	self.remember(self.mind.memory(customer, good, outcome, price, first))
end

return Stall
