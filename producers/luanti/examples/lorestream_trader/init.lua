-- A trader: he hands goods over before he is paid, names prices by what was paid before, and does not deal with people
-- who did not pay.

local agents = lorestream_agents
local path = core.get_modpath(core.get_current_modname())
local mind, Stall = assert(loadfile(path .. "/mind.lua"))(lorestream_agents.weight), dofile(path .. "/stall.lua")

local COIN = "lorestream_trader:coin"
local FORM = "lorestream_trader:offer"
local DUE_S = tonumber(core.settings:get("lorestream_trader.due")) or 60
-- What he sells, as far as the game has it: what it costs him and its price in his list, in coins.
local WARES = {
	["default:axe_steel"] = {cost = 8, list = 20},
	["default:ladder_steel"] = {cost = 2, list = 5},
	["farming:bread"] = {cost = 3, list = 8},
	["basetools:axe_steel"] = {cost = 8, list = 20},
	["testfood:good5"] = {cost = 3, list = 8},
}

core.register_craftitem(COIN, {
	description = "Coin",
	inventory_image = "blank.png^[noalpha^[colorize:#e0b020:255",
	stack_max = 999,
})

local goods, order = {}, {}
core.register_on_mods_loaded(function()
	for item, ware in pairs(WARES) do
		if core.registered_items[item] then
			local name = item:match(":(.*)$"):gsub("_", " ")
			goods[name] = {cost = ware.cost, list = ware.list, item = item}
			order[#order + 1] = name
		end
	end
	table.sort(order)
	if core.registered_items["default:gold_ingot"] then
		core.register_craft({output = COIN .. " 10", recipe = {{"default:gold_ingot"}}})
	end
end)

local function stall_of(agent)
	agent.own.debts = agent.own.debts or {}
	agent.stall = agent.stall or Stall.new({
		mind = mind,
		goods = goods,
		due_s = DUE_S,
		debts = agent.own.debts,
		clock = function()
			return agent:now()
		end,
		remember = function(text, metadata)
			metadata.pos = agent:pos()
			agent:remember(text, metadata)
		end,
		count = function(what, amount)
			agent:count(what, amount)
		end,
	})
	return agent.stall
end

-- Which trader a player talks to: {agent, good}, by name of the player.
local talks = {}

-- The talk of a player; nil if there is none, or if the trader is not loaded any more.
local function talk_of(player_name)
	local talk = talks[player_name]
	if talk and agents.active[talk.agent.id] ~= talk.agent then
		talks[player_name], talk = nil, nil
	end
	return talk
end

local function tell(player_name, text)
	core.chat_send_player(player_name, "Trader: " .. text)
end

local function show(player_name, talk, price)
	local text = ("%s: %d coins, to be paid within %d seconds"):format(talk.good, price, DUE_S)
	core.show_formspec(player_name, FORM, "size[7,2.5]label[0.3,0.3;" .. core.formspec_escape(text) .. "]" ..
		"button_exit[0.2,1.4;2.2,1;take;I take it]button[2.4,1.4;2.2,1;dear;Too dear]button_exit[4.6,1.4;2.2,1;no;No]")
end

local function offer(agent, player_name, good)
	local talk = {agent = agent, good = good}
	talks[player_name] = talk
	stall_of(agent):enter(player_name, good, function(price, why)
		if price then
			show(player_name, talk, price)
		else
			talks[player_name] = nil
			tell(player_name, why == "owes" and "Pay what you owe first." or "I remember you. I do not deal with you.")
		end
	end)
end

local function pay(agent, player, owed)
	local inventory, coins = player:get_inventory(), ItemStack(COIN .. " " .. owed)
	if not inventory:contains_item("main", coins) then
		return tell(player:get_player_name(), ("You owe me %d coins."):format(owed))
	end
	inventory:remove_item("main", coins)
	agent.stall:pay(player:get_player_name())
	tell(player:get_player_name(), "Thank you.")
end

core.register_on_player_receive_fields(function(player, form, fields)
	local name = player:get_player_name()
	local talk = form == FORM and talk_of(name)
	if not talk then
		return
	end
	local stall = talk.agent.stall
	if fields.take then
		local good, price = stall:take(name)
		if good then
			local left = player:get_inventory():add_item("main", goods[good].item)
			core.add_item(player:get_pos(), left)
			tell(name, ("Come back with %d coins and click on me."):format(price))
		end
	elseif fields.dear then
		local price = stall:too_dear(name)
		if price then
			return show(name, talk, price)
		end
		core.close_formspec(name, FORM)
		tell(name, "Then not.")
	else
		stall:leave(name)
	end
	talks[name] = nil
end)

core.register_on_leaveplayer(function(player)
	local name = player:get_player_name()
	local talk = talks[name]
	talks[name] = nil
	if talk then
		talk.agent.stall:leave(name)
	end
end)

agents.register({
	name = "lorestream_trader:trader",
	title = "Trader",
	command = "trader",
	sight = 8,
	speed = 3,
	live = function(agent)
		local stall = stall_of(agent)
		stall:give_up()
		stall:serve(function(...)
			return agent:ask(...)
		end)
	end,
	on_rightclick = function(agent, player)
		local name = player:get_player_name()
		local owed = stall_of(agent):owed(name)
		if owed then
			pay(agent, player, owed)
		elseif not talk_of(name) and #order > 0 then
			offer(agent, name, order[math.random(#order)])
		end
	end,
})
