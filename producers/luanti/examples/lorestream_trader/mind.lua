-- What a trader asks his memory, and what he makes of the answer. Pure: no engine, no service.
--
-- A memory of a deal: metadata {good, outcome = "paid"|"cheated"|"no_deal", price, first}, and the customer as player.
-- first: the price was the first one that he named.

-- Argument: lorestream_agents.weight.
local weight = ...
local mind = {}

-- After this time what he knows weighs half, in seconds. Prices drift, people change more slowly.
mind.PRICE_HALF_LIFE_S = 600
mind.TRUST_HALF_LIFE_S = 7 * 86400
-- He goes by the last deals with a good only: a mean over many lags behind prices that rise or fall.
mind.K = 4
-- How he judges a stranger: the share of people who pay, and how many deals that belief is worth.
mind.STRANGER_TRUST = 0.75
mind.STRANGER_WEIGHT = 0.5
-- The list price counts as much as this many deals of today.
mind.LIST_WEIGHT = 0.5
-- He names three prices around what he believes the good is worth: this share above it, the worth, this share below.
-- The more deals he remembers, the closer they are to each other.
mind.SURE = 0.08
mind.UNSURE = 0.2

-- The searches before a deal: what this customer did, and what was paid for this good.
function mind.about_customer(customer)
	return {filters = {player = customer, outcome = {["in"] = {"paid", "cheated"}}}, k = 20}
end

function mind.about_good(good)
	return {filters = {good = good, outcome = {["in"] = {"paid", "no_deal"}}}, k = mind.K}
end

-- The probability that a customer pays, from the memories of him.
function mind.trust(memories, now_s)
	local paid, all = mind.STRANGER_TRUST * mind.STRANGER_WEIGHT, mind.STRANGER_WEIGHT
	for _, memory in ipairs(memories) do
		local share, outcome = weight(memory, now_s, mind.TRUST_HALF_LIFE_S), memory.metadata.outcome
		if outcome == "paid" then
			paid, all = paid + share, all + share
		elseif outcome == "cheated" then
			all = all + share
		end
	end
	return paid / all
end

-- What a deal says about the worth of the good. A first price that was accepted was too low; the last price of a deal
-- that failed was too high.
local function evidence(deal)
	if deal.outcome == "no_deal" then
		return deal.price * 0.85
	end
	return deal.first and deal.price * 1.05 or deal.price
end

-- What the good is worth: the mean of the list price and the last deals, newer ones weigh more. memories: the newest
-- first. Returns it with the sum of the weights of the deals.
function mind.worth(memories, now_s, list_price)
	local sum, all = list_price * mind.LIST_WEIGHT, 0
	for i = 1, math.min(mind.K, #memories) do
		local memory = memories[i]
		if type(memory.metadata.price) == "number" then
			local share = weight(memory, now_s, mind.PRICE_HALF_LIFE_S)
			sum, all = sum + evidence(memory.metadata) * share, all + share
		end
	end
	return sum / (all + mind.LIST_WEIGHT), all
end

-- The prices to name, the highest first, in whole coins; none is below what the good has cost him.
-- deals: how many deals he knows, from `worth`.
function mind.asks(worth, deals, cost)
	local spread = mind.SURE + mind.UNSURE / (1 + deals)
	local asks = {}
	for _, factor in ipairs({1 + spread, 1, 1 - spread}) do
		local price = math.max(math.floor(worth * factor + 0.5), math.ceil(cost) + 1)
		if price ~= asks[#asks] then
			asks[#asks + 1] = price
		end
	end
	return asks
end

-- Whether he hands the good over before he is paid: only if he expects to gain by it.
function mind.deals(trust, price, cost)
	return trust * price > cost
end

-- The text and metadata of a memory of a deal. The customer's name is no part of the text.
function mind.memory(customer, good, outcome, price, first)
	local texts = {
		paid = "A customer bought %s and paid %d coins",
		cheated = "A customer took %s for %d coins and never paid",
		no_deal = "A customer did not want %s for %d coins",
	}
	return texts[outcome]:format(good, price),
		{player = customer, good = good, outcome = outcome, price = price, first = first}
end

return mind
