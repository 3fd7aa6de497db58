// Package jq runs jq programs within bounds: whatever a program calls and whatever it is given, it ends soon after its context
// does, holds no more than a bounded amount of memory, and of programs that take long only a few run at once.
//
// gojq looks at its context only between its own steps, so a single call of a function may take minutes and gigabytes. Here a
// compiled program is changed before it runs ([machine]):
//
//   - Each step counts, and is where the context, and what the program holds ([meter]), are looked at.
//   - Each function of gojq is called through one of ours ([natives]), which first asks how large its result and its work will be,
//     or does the work itself, a piece at a time. A function that is not known is treated as one that copies all it gets.
//   - What the program builds without a function is charged by calls that are inserted beside it.
//
// What a program holds is measured, not added up: garbage does not count. When enough has been charged, everything that its stacks
// refer to is walked through ([meter.look]).
//
// # Rules
//
//   - A program's result is gojq's result, but for the bounds: TestLikeGojq compares the two, TestRandomPrograms on random programs.
//   - No native function runs for long between two looks at the context, whatever its arguments.
//   - Numbers keep the digits that they are written with.
//   - The package sets no deadline of its own: the caller's context is the bound on time, [Share] lets several programs share it.
//
// Programs of the plainest kind are run without gojq ([shapeOf]), as long as what they meet is as plain.
//
// # How to add to it
//
//   - A function of gojq, which a new release may bring: a row in natives, with how its work and its result grow with its input
//     (copies, whole, or code of its own), or its name in simple, when both are small whatever the input; and a case in TestLikeGojq
//     and TestBounded. Without either it is charged as one that copies all it gets, eight times over.
//   - A new release of gojq: run the tests, above all the comparison with gojq. machine.go knows its layout in memory; where the types
//     differ no program compiles, so that a mismatch is never a wrong answer.
package jq
