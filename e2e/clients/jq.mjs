// Runs jq 1.7.1 itself: each line of the input is a program and its input, each of the output what it yields, or "an error".
import { createInterface } from 'node:readline'
import { raw } from 'jq-wasm'

for await (const line of createInterface({ input: process.stdin })) {
  const [program, input] = JSON.parse(line)
  let said = 'an error'
  try {
    const { stdout, stderr } = await raw(input, program, ['-c'])
    if (stderr === '' || stderr.startsWith('["DEBUG:"')) said = stdout.trim()
  } catch {}
  console.log(JSON.stringify(said))
}
