// Package graphql reads what a GraphQL client sends: a request (GraphQL over HTTP, working draft; the form of persisted queries is Apollo's),
// the document in it (GraphQL specification, October 2021, section 2), and files of the documents that are allowed. It executes and validates
// nothing: that is the service's. The rules:
//
//   - Everything is bounded: bytes, tokens, the depth of selections with their fragments, variables and how deep they nest.
//   - A request comes out in one canonical form, so that equal requests are equal bytes, and what was looked at is what is sent on.
//   - A document is compared by its tokens: white space, commas and comments mean nothing.
package graphql
