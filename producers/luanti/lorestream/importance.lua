-- How important events are by their type, from 0 to 10. The service takes 5 for types that are not in the table.

local DEFAULTS = {
	dig = 2, place = 2, craft = 3, punch = 4, kill = 7, damage = 5, death = 9, respawn = 2,
	chat = 5, me = 4, join = 3, leave = 2, eat = 2, pickup = 1, drop = 2, move = 1, store = 3, take = 3, trade = 7,
	interact = 3, zone = 2, protection = 4, cheat = 6,
}

local importance = {}

-- The importance that a value stands for, or nil if it is none.
function importance.valid(value)
	return type(value) == "number" and value >= 0 and value <= 10 and value or nil
end

-- The table of defaults, changed by a text such as "dig=1, trade=9". Returns the table, and a list of the parts that
-- are not understood.
function importance.table_from(text)
	local by_type, wrong = {}, {}
	for kind, value in pairs(DEFAULTS) do
		by_type[kind] = value
	end
	for part in text:gmatch("[^,]+") do
		local kind, number = part:match("^%s*([^=]-)%s*=%s*(.-)%s*$")
		local value = importance.valid(tonumber(number))
		if value and kind ~= "" then
			by_type[kind] = value
		elseif part:find("%S") then
			wrong[#wrong + 1] = part:match("^%s*(.-)%s*$")
		end
	end
	return by_type, wrong
end

return importance
