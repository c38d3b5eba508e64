-- The ids of lost events. Ids have the form BOOT:NUMBER, with consecutive numbers, so they are kept as ranges.

local Ids = {}
Ids.__index = Ids

function Ids.new()
	return setmetatable({boots = {}}, Ids)
end

-- Adds the id of the line text[first..last]; nothing if it has none. Creates no long string.
function Ids:add(text, first, last)
	local boot, number = text:match('^{"id" ?: ?"(%x+):(%d+)"', first)
	if not boot then
		-- A line of an older release, which has the id among the other keys, or a broken one.
		boot, number = text:sub(first, last):match('"id" ?: ?"(%x+):(%d+)"')
	end
	number = tonumber(number)
	if not number then
		return
	end
	local ends = self.boots[boot]
	if not ends then
		ends = {}
		self.boots[boot] = ends
	end
	-- The first and last number of each range.
	if ends[#ends] == number - 1 then
		ends[#ends] = number
	else
		ends[#ends + 1] = number
		ends[#ends + 1] = number
	end
end

-- Calls visit(id) for each id.
function Ids:each(visit)
	for boot, ends in pairs(self.boots) do
		for i = 1, #ends, 2 do
			for number = ends[i], ends[i + 1] do
				visit(("%s:%d"):format(boot, number))
			end
		end
	end
end

-- The ids as {BOOT = "1-3,7"}; nil if there are none.
function Ids:ranges()
	local texts = {}
	for boot, ends in pairs(self.boots) do
		local parts = {}
		for i = 1, #ends, 2 do
			local from, to = ("%d"):format(ends[i]), ("%d"):format(ends[i + 1])
			parts[#parts + 1] = from == to and from or from .. "-" .. to
		end
		texts[boot] = table.concat(parts, ",")
	end
	return next(texts) and texts or nil
end

return Ids
