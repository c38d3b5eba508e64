-- One file of the spool: JSON lines, and marks. A mark is a line of # and the number of the segment that follows,
-- which is its place in the queue (preceded by the name of its run, if that is not the run of the file). All
-- lines above the last mark are done. Each line ends with a comma, so that the body of a request can be read from
-- the file without joining: that must be fast, because it happens within server steps.

local Segment = {}

local MARK = "#"

-- The value (priority) of event types: the lowest are dropped first. Types that are not listed have the highest value.
local VALUE = {
	dig = 1, place = 1, punch = 1, pickup = 1, move = 1,
	damage = 2, craft = 2, join = 2, leave = 2, drop = 2, store = 2, take = 2, zone = 2, interact = 2,
}
Segment.HIGHEST_VALUE = 3

-- What stands for the type of a line that has none, as those of lorestream.put.
local NO_TYPE = "text"

-- The type of a line, with or without its comma. write_json sorts the keys, and "type" is the last key of an event; its
-- value has at most 64 bytes.
function Segment.type_of(line)
	return line:match('"type" ?: ?"([^"]*)"},?$', -80) or NO_TYPE
end

-- The id of a line; "" if it has none. encode.lua puts it first; lines of older releases have it among the other keys.
function Segment.id_of(line)
	return line:match('^{"id" ?: ?"([^"]*)"') or line:match('"id" ?: ?"(%x+:%d+)"') or ""
end

-- The argument for is_of_type(): a pattern for the end of a line of this type, and its minimum length in bytes.
function Segment.ending_of(kind)
	local pattern = '^"type" ?: ?"' .. kind:gsub("%W", "%%%0") .. '"},\n'
	return {pattern = pattern, bytes = #'"type":""},\n' + #kind, also_without = kind == NO_TYPE}
end

-- Whether the line that ends at stop has a type.
local function has_type(block, stop)
	local start, found = stop - 82
	repeat
		start, found = block:find('"type" ?: ?"[^"]*"},\n', math.max(start + 1, 1))
	until not start or found >= stop
	return found == stop
end

-- Whether the line that ends at stop is of this type. Creates no string.
function Segment.is_of_type(block, stop, ending)
	if ending.also_without and not has_type(block, stop) then
		return true
	end
	for spaces = 0, 2 do
		local _, found = block:find(ending.pattern, stop - ending.bytes - spaces + 1)
		if found == stop then
			return true
		end
	end
	return false
end

local function value_of(kind)
	return VALUE[kind] or Segment.HIGHEST_VALUE
end

-- What follows each line in a file.
local ENDING = ",\n"

-- An empty segment. count, types and values: number of its events, by type and by value. bytes: the size of its
-- lines in the file. lost: the number of dropped lines that are still in the file; gone: the same by type, the
-- oldest of each.
function Segment.new(fields)
	fields.count, fields.lost, fields.bytes = 0, 0, 0
	fields.types, fields.values = {}, {}
	for value = 1, Segment.HIGHEST_VALUE do
		fields.values[value] = 0
	end
	return fields
end

-- Adds one line to the counts.
function Segment.count_line(segment, line)
	local kind = Segment.type_of(line)
	local value = value_of(kind)
	segment.count = segment.count + 1
	segment.bytes = segment.bytes + #line + #ENDING
	segment.types[kind] = (segment.types[kind] or 0) + 1
	segment.values[value] = segment.values[value] + 1
end

-- Drops at most `most` events of one type with this value: changes only the counts, not the lines. Returns
-- the number of dropped events.
function Segment.drop(segment, value, most)
	for kind, held in pairs(segment.types) do
		if value_of(kind) == value then
			local dropped = math.min(held, most)
			segment.types[kind] = held > dropped and held - dropped or nil
			segment.values[value] = segment.values[value] - dropped
			segment.count, segment.body = segment.count - dropped, nil
			segment.lost = segment.lost + dropped
			segment.gone = segment.gone or {}
			segment.gone[kind] = (segment.gone[kind] or 0) + dropped
			return dropped
		end
	end
end

-- Whether at least a quarter of the lines in the file are dropped ones.
function Segment.is_worn(segment)
	return segment.lost > 0 and segment.lost * 3 >= segment.count
end

-- Writes a line to the file. Returns true, or nil on failure.
function Segment.write(segment, line)
	local file = segment.file
	return file and file:write(line, ENDING) and file:flush()
end

-- Writes a mark: the lines above are done, and the segment with this number (if given) follows. Returns as
-- write() does.
function Segment.mark(segment, number)
	local file = segment.file
	return file and file:write(MARK, number or "", "\n") and file:flush()
end

function Segment.close(segment)
	if segment.file then
		segment.file:close()
		segment.file = nil
	end
end

local OPENING, CLOSING, COMMA = ("{},"):byte(1, 3)

-- Returns the lines of a file that are not done, {torn = number of incomplete lines, broken = list of lines that check
-- refused}, and the place of the segment. check(line): optional, returns false for a line that cannot be sent.
function Segment.read_lines(path, check)
	local file = io.open(path, "rb")
	if not file then
		return {}, {torn = 0, broken = {}}
	end
	local content = file:read("*a") or ""
	file:close()
	local lines, bad, place, start = {}, {torn = 0, broken = {}}, nil, 1
	while start <= #content do
		local stop = content:find("\n", start, true)
		local comma = stop and content:byte(stop - 1) == COMMA
		local line = content:sub(start, stop and stop - (comma and 2 or 1) or -1)
		if line:sub(1, 1) == MARK then
			lines, bad, place = {}, {torn = 0, broken = {}}, line:match("^#(.*%d)$") or place
		elseif line ~= "" and not stop then
			-- A line cut off by a crash of the machine: put() had not returned for it.
			bad.torn = bad.torn + 1
		elseif line:byte() == OPENING and line:byte(-1) == CLOSING and not line:find("\0", 1, true)
			and (not check or check(line)) then
			lines[#lines + 1] = line
		elseif line ~= "" then
			bad.broken[#bad.broken + 1] = line
		end
		start = (stop or #content) + 1
	end
	return lines, bad, place
end

-- Opens the file at the first line of the segment. Returns nil if no line begins there.
function Segment.open_lines(segment)
	-- Not "rb": for reading, the engine first compares the path with those of all mods, which is slow.
	local file = io.open(segment.path, "r+b")
	if file and not (file:seek("end", -segment.bytes - 1) and file:read(1) == "\n") then
		file:close()
		return nil
	end
	return file
end

-- Reads the lines of the segment, without the last comma. Returns nil if the file does not end with a line.
local function read_end(segment)
	local file = Segment.open_lines(segment)
	if not file then
		return nil
	end
	local body = file:read(segment.bytes - #ENDING)
	body = file:read("*a") == ENDING and body or nil
	file:close()
	return body
end

-- The lines without the dropped ones, and the dropped ones.
local function without(lines, gone)
	local kept, dropped, left = {}, {}, {}
	for kind, count in pairs(gone) do
		left[kind] = count
	end
	for _, line in ipairs(lines) do
		local kind = Segment.type_of(line)
		if (left[kind] or 0) > 0 then
			left[kind] = left[kind] - 1
			dropped[#dropped + 1] = line
		else
			kept[#kept + 1] = line
		end
	end
	return kept, dropped
end

-- The lines joined by commas, as a request needs them.
function Segment.body_of(segment)
	local body = not segment.lines and not segment.gone and read_end(segment)
	if body then
		return body
	end
	local lines = segment.lines or (Segment.read_lines(segment.path))
	return Segment.join(segment.gone and (without(lines, segment.gone)) or lines)
end

-- The content of a file with these lines only. place: of the segment in the queue.
function Segment.whole(place, lines)
	return MARK .. place .. "\n" .. Segment.join(lines) .. ENDING
end

-- Lines as the body of a request needs them; from first to last, or all. A line has no line end in it.
function Segment.join(lines, first, last)
	return table.concat(lines, ENDING, first, last)
end

-- The lines in a body.
function Segment.lines_in(body)
	local lines, start = {}, 1
	while true do
		local stop = body:find(ENDING, start, true)
		lines[#lines + 1] = body:sub(start, stop and stop - 1)
		if not stop then
			return lines
		end
		start = stop + #ENDING
	end
end

-- Removes the dropped lines of a segment that is only in memory. Returns them.
function Segment.thin(segment)
	local dropped
	segment.lines, dropped = without(segment.lines, segment.gone)
	segment.gone, segment.lost, segment.bytes = nil, 0, #ENDING * #segment.lines
	for _, line in ipairs(segment.lines) do
		segment.bytes = segment.bytes + #line
	end
	return dropped
end

return Segment
