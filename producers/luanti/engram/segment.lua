-- One file of the spool: JSON lines, and marks. The newest mark (#, then the number of the segment that follows, which
-- is its place in the queue) says that the lines above it are done. A comma ends each line: what a request holds is
-- then read from the file as it stands, for a backlog is read within server steps.

local Segment = {}

local MARK = "#"

-- What is dropped first. Types that are not listed are worth keeping longest.
local VALUE = {dig = 1, place = 1, punch = 1, damage = 2, craft = 2, join = 2, leave = 2}
Segment.HIGHEST_VALUE = 3

-- write_json sorts the keys, and no key of an event sorts after "type", which has 64 bytes at most.
function Segment.type_of(line)
	return line:match('"type" ?: ?"([^"]*)"}$', -80) or "text"
end

function Segment.value_of(line)
	return VALUE[Segment.type_of(line)] or Segment.HIGHEST_VALUE
end

-- What a line takes of its file beside itself.
local ENDING = ",\n"

function Segment.size_of(line)
	return #line + #ENDING
end

-- True when the line is in the file, nil when it could not be written.
function Segment.write(segment, line)
	local file = segment.file
	return file and file:write(line, ENDING) and file:flush()
end

-- Ends what is in the file; what follows has this number, if any. True or nil, as write() does.
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

local function read_lines(path)
	local file = io.open(path, "rb")
	if not file then
		return {}, 0
	end
	local content = file:read("*a") or ""
	file:close()
	local lines, torn, place, start = {}, 0, nil, 1
	while start <= #content do
		local stop = content:find("\n", start, true)
		local comma = stop and content:byte(stop - 1) == COMMA
		local line = content:sub(start, stop and stop - (comma and 2 or 1) or -1)
		if line:sub(1, 1) == MARK then
			lines, place = {}, tonumber(line:sub(2)) or place
		elseif stop and line:byte() == OPENING and line:byte(-1) == CLOSING and not line:find("\0", 1, true) then
			lines[#lines + 1] = line
		elseif line ~= "" then
			-- A line that was cut off by a crash of the machine was never promised.
			torn = torn + 1
		end
		start = (stop or #content) + 1
	end
	return lines, torn, place
end

-- The end of the file, as long as the lines of the segment should be and without the last comma: nil where that
-- does not begin and end with a line.
local function read_end(segment)
	-- Not "rb": before it lets a mod read, the engine compares the path with those of all mods.
	local file = io.open(segment.path, "r+b")
	if not file then
		return nil
	end
	local body
	if file:seek("end", -segment.bytes - 1) and file:read(1) == "\n" then
		body = file:read(segment.bytes - #ENDING)
		body = file:read("*a") == ENDING and body or nil
	end
	file:close()
	return body
end

-- Counts what a segment holds.
function Segment.tally(segment, lines)
	segment.count, segment.bytes, segment.values = #lines, 0, {0, 0, 0}
	for _, line in ipairs(lines) do
		local value = Segment.value_of(line)
		segment.values[value] = segment.values[value] + 1
		segment.bytes = segment.bytes + Segment.size_of(line)
	end
end

-- The segment that a file still holds, or nil, and the number of its broken lines.
function Segment.find(dir, name)
	local segment = {path = dir .. "/" .. name, saved = true, erase = name:find("%.erase$") ~= nil}
	local lines, bad, place = read_lines(segment.path)
	if #lines == 0 then
		os.remove(segment.path)
		return nil, bad
	end
	Segment.tally(segment, lines)
	local run, number = name:match("^(%d+%-%x+)%-(%d+)")
	segment.number = place or tonumber(number)
	segment.place = ("%s-%08d"):format(run, segment.number)
	if bad > 0 then
		Segment.rewrite(segment, lines) -- so that a line that follows does not continue a broken one
	end
	return segment, bad
end

-- Its lines, from memory or from the file.
function Segment.lines_of(segment)
	return segment.lines or (read_lines(segment.path))
end

-- Its lines as a request holds them, with commas between.
function Segment.body_of(segment)
	return not segment.lines and read_end(segment) or table.concat(Segment.lines_of(segment), ",")
end

-- Leaves these lines alone in the file, in the segment's place.
function Segment.rewrite(segment, kept)
	local part = segment.path .. ".part"
	local file = io.open(part, "wb")
	-- If this fails the old file stays: a restart would send more than was promised, never less.
	if file then
		local written = file:write(MARK, segment.number, "\n", table.concat(kept, ENDING), ENDING)
		file:close()
		if written then
			os.rename(part, segment.path)
		end
	end
end

return Segment
