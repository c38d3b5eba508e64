-- Customers come to a trader one after the other. What the goods are worth to them rises and falls; some never pay.

local GOODS = {bread = {cost = 8, list = 20}, rope = {cost = 14, list = 35}, lamp = {cost = 24, list = 60}}
local ORDER = {"bread", "rope", "lamp"}
local CUSTOMERS, CHEATS = 12, 3
local EVERY_S = 15 -- between two customers
local PAYS_AFTER_S = 10
local PATIENCE = 3 -- how many prices a customer listens to
local DRIFT = 0.04 -- how much the worth of a good changes between two customers at most, as a share
local LOW, HIGH = 0.6, 1.8 -- between these multiples of the list price
local EARTH = "basenodes:dirt_with_grass"

local market = {size = 16}

function market.build(_, plan)
	plan:fill(0, -1, 0, 15, 0, 15, EARTH)
end

function market.start(arena)
	arena.agent = lorestream_agents.add("lorestream_trader:trader", arenas.at(arena, 8, 1, 8),
		{number = arena.seed, seed = arena.seed})
	arena.due_s, arena.payments = 0, {}
	arena.level, arena.trend = {}, {}
	for _, good in ipairs(ORDER) do
		arena.level[good], arena.trend[good] = 0.8 + 0.5 * arena.random(), arena.random() < 0.5 and -1 or 1
	end
end

local function drift(arena)
	for _, good in ipairs(ORDER) do
		local level = arena.level[good] * (1 + arena.trend[good] * DRIFT * arena.random())
		if level < LOW or level > HIGH then
			arena.trend[good] = -arena.trend[good]
		else
			arena.level[good] = level
		end
	end
end

-- A customer haggles: he takes the first price that is not above what the good is worth to him.
local function haggle(stall, name, worth, price)
	local heard = 1
	while price and price > worth do
		if heard == PATIENCE then
			return stall:leave(name)
		end
		price, heard = stall:too_dear(name), heard + 1
	end
	return price and stall:take(name)
end

local function visit(arena, now_s)
	local stall, good = arena.agent.stall, ORDER[arenas.roll(arena, 1, #ORDER)]
	local number = arenas.roll(arena, 1, CUSTOMERS)
	local name = ("customer_%d_%d"):format(arena.seed, number)
	local worth = GOODS[good].list * arena.level[good] * (0.9 + 0.2 * arena.random())
	stall:enter(name, good, function(price)
		if haggle(stall, name, worth, price) and number > CHEATS then
			arena.payments[name] = now_s + PAYS_AFTER_S
		end
	end)
end

function market.step(arena, now_s)
	local stall = arena.agent.stall
	if not stall then
		return
	end
	stall.goods = GOODS
	for name, due_s in pairs(arena.payments) do
		if now_s >= due_s then
			stall:pay(name)
			arena.payments[name] = nil
		end
	end
	if now_s >= arena.due_s then
		arena.due_s = arena.due_s + EVERY_S
		drift(arena)
		visit(arena, now_s)
	end
end

function market.measure(arena)
	local tally = arena.agent.tally
	return {gold = tally.gold or 0, cheated = tally.cheated or 0}
end

return market
